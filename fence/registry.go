package fence

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
)

// Option is one entry of Target.Options that a kind of driver knows. A name
// that ends in "*" stands for every name with that prefix.
type Option struct {
	Name string
	Help string
}

// Kind is one kind of driver, as its package offers it.
type Kind struct {
	Name    string
	Options []Option
	// Open checks the target and makes the driver. It does not talk to the
	// controller.
	Open func(Target) (Driver, error)
}

// Registry is the set of drivers a program knows, by name. It is a value made
// by whoever wires the program: there is no global one.
type Registry map[string]Kind

// NewRegistry makes a registry of the given kinds.
func NewRegistry(kinds ...Kind) Registry {
	r := make(Registry, len(kinds))
	for _, k := range kinds {
		r[k.Name] = k
	}
	return r
}

// Open makes the driver for a target. It refuses unknown drivers, unknown
// options and malformed values with a sentence, and does not talk to the
// controller.
func (r Registry) Open(t Target) (Driver, error) {
	kind, ok := r[t.Driver]
	if !ok {
		return nil, fmt.Errorf("open fence driver: there is no driver %q; known are %s",
			t.Driver, list(slices.Collect(maps.Keys(r))))
	}
	for _, name := range slices.Sorted(maps.Keys(t.Options)) {
		if !kind.knows(name) {
			return nil, fmt.Errorf("open fence driver %s: there is no option %q; known are %s",
				t.Driver, name, list(kind.optionNames()))
		}
	}
	d, err := kind.Open(t)
	if err != nil {
		return nil, fmt.Errorf("open fence driver %s: %w", t.Driver, err)
	}
	return d, nil
}

func (k Kind) knows(name string) bool {
	return slices.ContainsFunc(k.Options, func(o Option) bool {
		prefix, many := strings.CutSuffix(o.Name, "*")
		if many {
			return strings.HasPrefix(name, prefix) && name != prefix
		}
		return o.Name == name
	})
}

func (k Kind) optionNames() []string {
	names := make([]string, len(k.Options))
	for i, o := range k.Options {
		names[i] = o.Name
	}
	return names
}

func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// SplitAddress splits "host", "host:port", "[v6]" or "[v6]:port"; a bare IPv6
// address is a host.
func SplitAddress(address, defaultPort string) (host, port string, err error) {
	host, port = strings.Trim(address, "[]"), defaultPort
	if net.ParseIP(host) == nil && strings.Contains(address, ":") {
		if host, port, err = net.SplitHostPort(address); err != nil {
			return "", "", fmt.Errorf("address %q is not host or host:port", address)
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", "", fmt.Errorf("address %q has no valid port: ports are 1 to 65535", address)
	}
	if host == "" || strings.ContainsAny(host, " \t\r\n/@?#\x00") || strings.HasPrefix(host, "-") {
		return "", "", fmt.Errorf("address %q has no valid host name", address)
	}
	return host, port, nil
}

// Flag reads an option whose value is "true" or "false"; not set is false.
func (t Target) Flag(name string) (bool, error) {
	switch v := t.Option(name, "false"); v {
	case "true":
		return true, nil
	case "false":
		return false, nil
	default:
		return false, fmt.Errorf(`option %s is %q; it must be "true" or "false"`, name, v)
	}
}
