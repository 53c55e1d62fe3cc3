# bash completion for cvtool: asks the program, so it knows no verb, option or model by name.
# Use it:  source completions/cvtool.bash   (for good: copy it to ~/.local/share/bash-completion/completions/cvtool)

_cvtool() {
    local line=${COMP_LINE:0:COMP_POINT} current reply breaker before cut=""
    local -a words
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    current=${words[${#words[@]} - 1]}

    COMPREPLY=()
    while IFS= read -r reply; do
        [[ $reply ]] && COMPREPLY+=("$reply")
    done < <(_CVTOOL_COMPLETE=complete_bash COMP_WORDS="$(printf '%q ' "${words[@]}")" COMP_CWORD=$((${#words[@]} - 1)) "$1" 2>/dev/null)

    # bash replaces only what follows the last of these, which are all part of a model's name ("@" itself included)
    for breaker in : = @; do
        if [[ $COMP_WORDBREAKS == *"$breaker"* && $current == *"$breaker"* ]]; then
            before=${current%"$breaker"*}
            [[ $breaker == @ ]] || before+=$breaker
            ((${#before} > ${#cut})) && cut=$before
        fi
    done
    COMPREPLY=("${COMPREPLY[@]#"$cut"}")

    if ((${#COMPREPLY[@]} == 1)); then
        [[ ${COMPREPLY[0]} == *: ]] && compopt -o nospace 2>/dev/null
        # its own word again: the program leaves it to the shell, because a file belongs here
        [[ $cut${COMPREPLY[0]} == "$current" ]] && compgen -f -- "$current" >/dev/null && COMPREPLY=()
    fi
}

complete -o bashdefault -o default -F _cvtool cvtool
