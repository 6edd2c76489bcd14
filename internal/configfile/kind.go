package configfile

import (
	_ "embed"
	"fmt"
	"reflect"
	"strings"

	"lifeboat/agent"
	"lifeboat/node"
)

// Kind says whose configuration a file is.
type Kind string

// The kinds.
const (
	Server Kind = "server"
	Agent  Kind = "agent"
)

//go:embed server.yaml
var serverTemplate string

//go:embed agent.yaml
var agentTemplate string

// Default is a complete configuration file with comments: settings that may be
// left out are commented out and have their defaults.
func Default(kind Kind) (string, error) {
	switch kind {
	case Server:
		return serverTemplate, nil
	case Agent:
		return agentTemplate, nil
	}
	return "", fmt.Errorf("there is no configuration of a %q: use server or agent", kind)
}

// keys is the shape of a configuration: the keys of a section and what is below
// them. A nil map below a key takes any keys.
type keys map[string]keys

func keysOf(kind Kind) keys {
	if kind == Agent {
		return keysIn(reflect.TypeFor[agent.File]())
	}
	return keysIn(reflect.TypeFor[node.Config]())
}

func keysIn(t reflect.Type) keys {
	if t.Kind() != reflect.Struct {
		return nil
	}
	k := keys{}
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if name != "" && name != "-" {
			k[name] = keysIn(f.Type)
		}
	}
	return k
}
