package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// Shells that Completion knows.
const Shells = "bash,zsh,fish"

// Completion generates a completion script from the model of the command line,
// so that it can never list a command or flag that is not there. The scripts
// stand alone: they do not call the program and need no completion library.
func Completion(shell string, app *kong.Application) (string, error) {
	c := collect(app)
	switch shell {
	case "bash":
		return c.bash(), nil
	case "zsh":
		return c.zsh(), nil
	case "fish":
		return c.fish(), nil
	}
	return "", Usage("", "no completion for shell %q: use one of %s", shell, Shells)
}

// completion is the command line as tables. Paths are the words of a command,
// each with a leading space: "", " host", " host list".
type completion struct {
	program string
	paths   []string              // in the order of the model
	words   map[string][]hint     // what may follow a path: subcommands, enum arguments
	flags   map[string][]flagHint // flags of a path, those of its parents included
	values  []flagHint            // every flag that takes a value, once per name
	files   map[string]bool       // paths whose arguments are files
}

type hint struct{ word, help string }

type flagHint struct {
	long, short string // with dashes; short may be empty
	help        string
	takesValue  bool
	file        bool
	enum        []string
}

func collect(app *kong.Application) *completion {
	c := &completion{program: app.Name, words: map[string][]hint{}, flags: map[string][]flagHint{}, files: map[string]bool{}}
	c.walk(app.Node, "")
	return c
}

func (c *completion) walk(n *kong.Node, path string) {
	c.paths = append(c.paths, path)
	for _, level := range n.AllFlags(true) {
		for _, f := range level {
			c.addFlag(path, f)
		}
	}
	c.arguments(n, path)
	if n.DefaultCmd != nil { // its flags and arguments may follow without its name
		for _, f := range n.DefaultCmd.Flags {
			if !f.Hidden {
				c.addFlag(path, f)
			}
		}
		c.arguments(n.DefaultCmd, path)
	}
	for _, child := range n.Children {
		if child.Hidden {
			continue
		}
		c.words[path] = append(c.words[path], hint{child.Name, firstSentence(child.Help)})
		c.walk(child, path+" "+child.Name)
	}
}

func (c *completion) addFlag(path string, f *kong.Flag) {
	h := newFlagHint(f)
	c.flags[path] = append(c.flags[path], h)
	if h.takesValue && !slices.ContainsFunc(c.values, func(v flagHint) bool { return v.long == h.long }) {
		c.values = append(c.values, h)
	}
}

func (c *completion) arguments(n *kong.Node, path string) {
	for _, arg := range n.Positional {
		if arg.Enum != "" {
			for _, v := range arg.EnumSlice() {
				c.words[path] = append(c.words[path], hint{v, ""})
			}
		}
		if strings.Contains(arg.Name, "file") || strings.Contains(arg.Name, "archive") {
			c.files[path] = true
		}
	}
}

func newFlagHint(f *kong.Flag) flagHint {
	h := flagHint{long: "--" + f.Name, help: firstSentence(f.Help), takesValue: !f.IsBool() && !f.IsCounter(),
		file: f.PlaceHolder == "FILE" || f.PlaceHolder == "DIR"}
	if f.Short != 0 {
		h.short = "-" + string(f.Short)
	}
	if f.Enum != "" {
		h.enum = slices.DeleteFunc(f.EnumSlice(), func(v string) bool { return v == "" })
	}
	return h
}

// names are the spellings of a flag, joined by sep.
func (f flagHint) names(sep string) string {
	if f.short == "" {
		return f.long
	}
	return f.short + sep + f.long
}

func firstSentence(help string) string {
	if i := strings.IndexAny(help, ".:;"); i >= 0 {
		return help[:i]
	}
	return help
}

// quote makes a word for any of the three shells.
func quote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// pattern quotes each word for a case statement.
func pattern(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = quote(w)
	}
	return strings.Join(quoted, "|")
}

// valueFlags are the spellings of all flags that take a value, as a pattern.
func (c *completion) valueFlags() string {
	var names []string
	for _, f := range c.values {
		names = append(names, f.long)
		if f.short != "" {
			names = append(names, f.short)
		}
	}
	return pattern(names)
}

// findPath is the part that bash and zsh share: $at becomes the path of the
// command before the cursor, words that are values of flags are passed over.
func (c *completion) findPath(b *strings.Builder, words, last, start string) {
	fmt.Fprintf(b, "  local at= i w skip=\n  for ((i = %s; i < %s; i++)); do\n    w=${%s[i]}\n", start, last, words)
	fmt.Fprintf(b, "    if [[ -n $skip ]]; then skip=; continue; fi\n")
	fmt.Fprintf(b, "    case $w in\n      %s) skip=1; continue ;;\n    esac\n", c.valueFlags())
	fmt.Fprintf(b, "    case \"$at $w\" in\n      %s) at=\"$at $w\" ;;\n    esac\n  done\n", pattern(c.paths[1:]))
}

// bashFiles completes names of files; compopt fails outside a real completion.
const bashFiles = `compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$cur")`

func (c *completion) bash() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# bash completion for %s. Use it now: source <(%s completion bash)\n", c.program, c.program)
	fmt.Fprintf(&b, "# and always: %s completion bash > /etc/bash_completion.d/%s\n", c.program, c.program)
	fmt.Fprintf(&b, "_%s() {\n  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=\n", c.program)
	c.findPath(&b, "COMP_WORDS", "COMP_CWORD", "1")
	b.WriteString("  case $prev in\n")
	for _, f := range c.values {
		reply := "COMPREPLY=()"
		switch {
		case len(f.enum) > 0:
			reply = fmt.Sprintf(`COMPREPLY=($(compgen -W %s -- "$cur"))`, quote(strings.Join(f.enum, " ")))
		case f.file:
			reply = bashFiles
		}
		fmt.Fprintf(&b, "    %s) %s; return ;;\n", f.names("|"), reply)
	}
	b.WriteString("  esac\n  case $at in\n")
	for _, path := range c.paths {
		if c.files[path] {
			fmt.Fprintf(&b, "    %s) [[ $cur == -* ]] || { %s; return; } ;;&\n", quote(path), bashFiles)
		}
		var words []string
		for _, h := range c.words[path] {
			words = append(words, h.word)
		}
		var flags []string
		for _, f := range c.flags[path] {
			flags = append(flags, f.long)
		}
		fmt.Fprintf(&b, "    %s) words=%s; [[ $cur == -* ]] && words=%s ;;\n",
			quote(path), quote(strings.Join(words, " ")), quote(strings.Join(flags, " ")))
	}
	fmt.Fprintf(&b, "  esac\n  COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\ncomplete -F _%s %s\n", c.program, c.program)
	return b.String()
}

func (c *completion) zsh() string {
	var b strings.Builder
	fmt.Fprintf(&b, "#compdef %s\n# zsh completion for %s. Use it now: source <(%s completion zsh)\n", c.program, c.program, c.program)
	fmt.Fprintf(&b, "# and always: save it as _%s in a directory of $fpath.\n", c.program)
	fmt.Fprintf(&b, "_%s() {\n  local -a list\n", c.program)
	c.findPath(&b, "words", "CURRENT", "2")
	b.WriteString("  case ${words[CURRENT-1]} in\n")
	for _, f := range c.values {
		reply := ":"
		switch {
		case len(f.enum) > 0:
			reply = "compadd -- " + strings.Join(f.enum, " ")
		case f.file:
			reply = "_files"
		}
		fmt.Fprintf(&b, "    %s) %s; return ;;\n", f.names("|"), reply)
	}
	b.WriteString("  esac\n  case $at in\n")
	describe := func(word, help string) string {
		if help == "" {
			return quote(word)
		}
		return quote(word + ":" + help)
	}
	for _, path := range c.paths {
		if c.files[path] {
			fmt.Fprintf(&b, "    %s) [[ ${words[CURRENT]} == -* ]] || { _files; return; } ;|\n", quote(path))
		}
		var words, flags []string
		for _, h := range c.words[path] {
			words = append(words, describe(h.word, h.help))
		}
		for _, f := range c.flags[path] {
			flags = append(flags, describe(f.long, f.help))
		}
		fmt.Fprintf(&b, "    %s)\n      list=(%s)\n      [[ ${words[CURRENT]} == -* ]] && list=(%s)\n      ;;\n",
			quote(path), strings.Join(words, " "), strings.Join(flags, " "))
	}
	fmt.Fprintf(&b, "  esac\n  _describe %s list\n}\n", quote(c.program))
	// In a directory of $fpath this is the body of the function itself.
	fmt.Fprintf(&b, "if [[ ${funcstack[1]} == _%s ]]; then\n  _%s \"$@\"\nelse\n  compdef _%s %s\nfi\n", c.program, c.program, c.program, c.program)
	return b.String()
}

func (c *completion) fish() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# fish completion for %s. Use it now: %s completion fish | source\n", c.program, c.program)
	fmt.Fprintf(&b, "# and always: %s completion fish > ~/.config/fish/completions/%s.fish\n", c.program, c.program)
	fmt.Fprintf(&b, "function __%s_at\n  set -l at ''\n  set -l skip ''\n  for w in (commandline -opc)[2..-1]\n", c.program)
	b.WriteString("    if test -n \"$skip\"\n      set skip ''\n      continue\n    end\n    switch $w\n")
	fmt.Fprintf(&b, "      case %s\n        set skip 1\n        continue\n    end\n", strings.ReplaceAll(c.valueFlags(), "|", " "))
	fmt.Fprintf(&b, "    switch \"$at $w\"\n      case %s\n        set at \"$at $w\"\n    end\n  end\n", strings.ReplaceAll(pattern(c.paths[1:]), "|", " "))
	fmt.Fprintf(&b, "  test \"$at\" = \"$argv[1]\"\nend\n")
	fmt.Fprintf(&b, "complete -c %s -f\n", c.program)
	for _, path := range c.paths {
		when := fmt.Sprintf("-n %s", quote(fmt.Sprintf(`__%s_at "%s"`, c.program, path)))
		if c.files[path] {
			fmt.Fprintf(&b, "complete -c %s %s -F\n", c.program, when)
		}
		for _, h := range c.words[path] {
			fmt.Fprintf(&b, "complete -c %s %s -a %s -d %s\n", c.program, when, quote(h.word), quote(h.help))
		}
		for _, f := range c.flags[path] {
			fmt.Fprintf(&b, "complete -c %s %s -l %s%s -d %s\n", c.program, when, f.long[2:], f.fishOptions(), quote(f.help))
		}
	}
	return b.String()
}

func (f flagHint) fishOptions() string {
	var s string
	if f.short != "" {
		s = " -s " + f.short[1:]
	}
	switch {
	case len(f.enum) > 0:
		s += " -x -a " + quote(strings.Join(f.enum, " "))
	case f.file:
		s += " -r -F"
	case f.takesValue:
		s += " -x"
	}
	return s
}
