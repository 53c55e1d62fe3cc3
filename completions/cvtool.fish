# fish completion for cvtool: asks the program, so it knows no verb, option or model by name.
# Use it:  source completions/cvtool.fish   (for good: copy it to ~/.config/fish/completions/)

function __cvtool_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l quoted (string escape -- $words)
    set -l found (env _CVTOOL_COMPLETE=complete_bash COMP_WORDS="$quoted" COMP_CWORD=(math (count $words) - 1) $words[1] 2>/dev/null | string match -v '')
    if test (count $found) -eq 0; or test "$found" = "$words[-1]"
        __fish_complete_path $words[-1] # the program leaves it to the shell, because a file belongs here
        return
    end
    set -l given (string match -r -- '^--[^=]*=' $words[-1])
    for one in $found
        printf '%s\n' "$given$one"
    end
end

complete -c cvtool -f -a '(__cvtool_complete)'
