"""The smallest complete cvtool plugin: a model, a verb and a format."""
