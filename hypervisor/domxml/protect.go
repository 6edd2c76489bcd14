package domxml

import (
	"encoding/xml"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Namespace of lifeboat's element in a domain's <metadata>:
//
//	<lifeboat:protect xmlns:lifeboat="https://lifeboat.dev/xmlns/1" ha="restart" priority="high" max_restart="1" max_relocate="1"/>
const Namespace = "https://lifeboat.dev/xmlns/1"

// Protect is what a definition asks of lifeboat. The attribute names and
// values are those of scenario files and of the command line.
type Protect struct {
	HA          string // "restart" (also when left out), "always" or "none"
	Priority    string // "lowest", "low", "medium", "high", "highest"; empty: not said
	MaxRestart  *int   // retries on the same host; nil: not said
	MaxRelocate *int   // other hosts tried after that; nil: not said
}

const maxRetries = 1000

// UnmarshalXML reads the element. A misspelt attribute is refused: an operator
// who wrote max_restrat must not find out when the host is dead.
func (p *Protect) UnmarshalXML(d *xml.Decoder, start xml.StartElement) error {
	*p = Protect{HA: "restart"}
	for _, a := range start.Attr {
		if a.Name.Space == "xmlns" || a.Name.Local == "xmlns" {
			continue
		}
		var err error
		switch a.Name.Local {
		case "ha":
			p.HA, err = oneOf(a.Value, "restart", "always", "none")
		case "priority":
			p.Priority, err = oneOf(a.Value, "lowest", "low", "medium", "high", "highest")
		case "max_restart":
			p.MaxRestart, err = retries(a.Value)
		case "max_relocate":
			p.MaxRelocate, err = retries(a.Value)
		default:
			err = fmt.Errorf("no such attribute; there are ha, priority, max_restart and max_relocate")
		}
		if err != nil {
			return fmt.Errorf("lifeboat:protect %.40s=%.40q: %w", a.Name.Local, a.Value, err)
		}
	}
	return d.Skip()
}

func oneOf(v string, allowed ...string) (string, error) {
	if slices.Contains(allowed, v) {
		return v, nil
	}
	return "", fmt.Errorf("want one of %s", strings.Join(allowed, ", "))
}

func retries(v string) (*int, error) {
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 || n > maxRetries {
		return nil, fmt.Errorf("want a number from 0 to %d", maxRetries)
	}
	return &n, nil
}
