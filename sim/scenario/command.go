package scenario

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// form is one row of the table of commands. In a pattern, words in capitals
// stand for: N the number of a rule, H a host, NEWH a new one, V a VM, NEWV perhaps a new one, M a
// manager, A a host or manager, D a duration, +D a signed one, KEY, VALUE; "..."
// is anything.
type form struct {
	pattern string
}

func forms() []form {
	return []form{
		{"power H on|off"}, {"network H on|off"},
		{"partition A A"}, {"partition A A one-way"}, {"heal A A"},
		{"bmc H on|off|lies|errors"}, {"bmc H slow D"},
		{"storage H on|off"}, {"freeze H"}, {"thaw H"},
		{"agent H stop|kill|start"}, {"libvirt H stop|start"},
		{"shutdown H"}, {"reboot H"},
		{"maintenance H on|off|force"}, {"host NEWH add"}, {"host H remove|enable|disable"}, {"confirm-dead H"},
		{"vm V start|stop|kill|hang|guest-shutdown"}, {"vm V crash-loop on|off"},
		{"vm V migrate H"}, {"vm V relocate H"},
		{"vm V move H"}, {"vm V copy H"},
		{"vm NEWV add H"}, {"vm V remove|manage|unmanage|clear|define"}, {"vm V set KEY VALUE"},
		{"rule add ..."}, {"rule remove N"},
		{"set KEY VALUE"}, {"work V cancel"},
		{"manager M kill|start|leave|isolate|heal|freeze|thaw"}, {"manager M disk stall|full|ok"},
		{"clock M +D"}, {"leader kill"},
		{"snapshot save"}, {"snapshot restore"},
		{"ha disarm"}, {"ha disarm freeze"},
		{"ha disarm ignore"},
		{"ha arm"},
	}
}

// Patterns are all forms of commands that are carried out, for people.
func Patterns() []string {
	var out []string
	for _, f := range forms() {
		out = append(out, f.pattern)
	}
	return out
}

// command reads one command.
func (p *parsing) command(line int, text string) (Command, bool) {
	words := strings.Fields(text)
	if len(words) == 0 {
		p.fail(line, "a command is empty")
		return Command{}, false
	}
	c := Command{Text: strings.Join(words, " "), Line: line}
	var verbs []string
	var near []form
	for _, f := range forms() {
		pattern := strings.Fields(f.pattern)
		if !slices.Contains(verbs, pattern[0]) {
			verbs = append(verbs, pattern[0])
		}
		if pattern[0] != words[0] {
			continue
		}
		near = append(near, f)
		if shape(pattern, words) {
			return p.fill(c, f, pattern, words)
		}
	}
	if len(near) == 0 {
		p.fail(line, "there is no command %q; %s", words[0], hint(words[0], verbs))
		return c, false
	}
	var how []string
	for _, f := range near {
		how = append(how, "`"+f.pattern+"`")
	}
	p.fail(line, "%q is not a command; it is written %s", c.Text, strings.Join(how, " or "))
	return c, false
}

func placeholder(w string) bool {
	return w == "..." || w == "+D" || w == strings.ToUpper(w) && w != strings.ToLower(w)
}

// shape reports whether words fit a pattern, whatever they name.
func shape(pattern, words []string) bool {
	for i, w := range pattern {
		if w == "..." {
			return true
		}
		if i >= len(words) {
			return false
		}
		if !placeholder(w) && !slices.Contains(strings.Split(w, "|"), words[i]) {
			return false
		}
	}
	return len(pattern) == len(words)
}

// fill checks what the words name, and takes the command apart.
func (p *parsing) fill(c Command, f form, pattern, words []string) (Command, bool) {
	var name []string
	ok := true
	for i, w := range pattern {
		word := words[i]
		switch w {
		case "H":
			ok = p.known(c.Line, "host", word, p.hosts) && ok
		case "NEWH":
			if !p.hosts[word] {
				ok = p.name(c.Line, word) && ok
				p.hosts[word] = true
			}
		case "V":
			ok = p.known(c.Line, "VM", word, p.vms) && ok
		case "NEWV":
			if !p.vms[word] {
				ok = p.name(c.Line, word) && ok
				p.vms[word] = true
			}
		case "M":
			ok = p.known(c.Line, "manager", word, p.managers) && ok
		case "A":
			if !p.hosts[word] && !p.managers[word] {
				p.fail(c.Line, "there is no host or manager %q", word)
				ok = false
			}
		case "D", "+D":
			if _, err := parseDuration(strings.TrimLeft(word, "+-")); err != nil {
				p.fail(c.Line, "%q: %v", c.Text, err)
				ok = false
			}
		case "KEY", "VALUE":
		case "...":
			c.Rule, ok = p.ruleCommand(c.Line, strings.Join(words[i:], " "))
			c.Form = strings.Join(name, " ")
			return c, ok
		case "N":
			if n, err := strconv.ParseUint(word, 10, 32); err != nil || n == 0 {
				p.fail(c.Line, "%q: %q is no number of a rule; the first one that is written is 1", c.Text, word)
				ok = false
			}
		default:
			name = append(name, word)
			continue
		}
		c.Args = append(c.Args, word)
	}
	c.Form = strings.Join(name, " ")
	return c, ok && p.values(c)
}

// vmKeys are what `vm V set` changes.
func vmKeys() []string {
	return []string{"cpus", "memory", "priority", "ha", "max_restart", "max_relocate", "depends_on", "gate", "gate_timeout", "guest_health", "guest_timeout", "guest_grace", "failback", "live_migration"}
}

// values checks the keys and values of the commands that set something.
func (p *parsing) values(c Command) bool {
	before := len(p.errs)
	switch c.Form {
	case "set":
		p.setting(c.Line, c.Args[0], c.Args[1])
		if len(p.errs) == before {
			p.f.Settings = p.f.Settings[:len(p.f.Settings)-1]
		}
	case "vm set":
		val := &node{line: c.Line, text: c.Args[2]}
		var v VM
		i := slices.IndexFunc(p.vmFields(&v), func(f field) bool { return f.key == c.Args[1] })
		if i < 0 || !slices.Contains(vmKeys(), c.Args[1]) {
			p.fail(c.Line, "a VM has no setting %q; %s", c.Args[1], hint(c.Args[1], vmKeys()))
			break
		}
		p.vmFields(&v)[i].read(val)
		p.dependencies()
	}
	return len(p.errs) == before
}

// String shows what was written.
func (c Command) String() string { return fmt.Sprintf("%q", c.Text) }
