package scenario

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Error is one thing that is wrong with a file.
type Error struct {
	Path string
	Line int
	Text string
}

func (e *Error) Error() string { return fmt.Sprintf("%s:%d: %s", e.Path, e.Line, e.Text) }

type kind uint8

const (
	scalar kind = iota
	mapping
	list
)

func (k kind) String() string { return [...]string{"a value", "a map", "a list"}[k] }

// node is a piece of YAML with the line it begins in.
type node struct {
	kind  kind
	line  int
	text  string // of a scalar
	null  bool
	keys  []pair  // of a mapping, in order
	items []*node // of a list
}

type pair struct {
	key  string
	line int
	val  *node
}

// tree reads the one document of a file.
func tree(path string, data []byte) (*node, error) {
	f, err := parser.ParseBytes(data, 0)
	if err != nil {
		var syntax *yaml.SyntaxError
		line := 1
		text := err.Error()
		if errors.As(err, &syntax) {
			text = syntax.Message
			if syntax.Token != nil && syntax.Token.Position != nil {
				line = syntax.Token.Position.Line
			}
		}
		return nil, &Error{path, line, "this is not YAML: " + strings.SplitN(text, "\n", 2)[0]}
	}
	if len(f.Docs) != 1 || f.Docs[0].Body == nil {
		return nil, &Error{path, 1, "a scenario file holds one document, and it is not empty"}
	}
	return convert(path, f.Docs[0].Body)
}

func lineOf(n ast.Node) int {
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 1
}

func convert(path string, n ast.Node) (*node, error) {
	switch n := n.(type) {
	case *ast.MappingNode:
		m := &node{kind: mapping, line: lineOf(n)}
		for _, v := range n.Values {
			if err := m.add(path, v); err != nil {
				return nil, err
			}
		}
		if len(n.Values) > 0 {
			m.line = m.keys[0].line
		}
		return m, nil
	case *ast.MappingValueNode:
		m := &node{kind: mapping, line: lineOf(n.Key)}
		return m, m.add(path, n)
	case *ast.SequenceNode:
		l := &node{kind: list, line: lineOf(n)}
		for _, v := range n.Values {
			x, err := convert(path, v)
			if err != nil {
				return nil, err
			}
			l.items = append(l.items, x)
		}
		return l, nil
	case *ast.NullNode:
		return &node{line: lineOf(n), null: true}, nil
	case *ast.LiteralNode:
		return &node{line: lineOf(n), text: n.Value.Value}, nil
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return &node{line: lineOf(n), text: n.GetToken().Value}, nil
	}
	return nil, &Error{path, lineOf(n), fmt.Sprintf("%s are not used in scenario files; write it out", feature(n))}
}

func feature(n ast.Node) string {
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		return "anchors and aliases"
	case *ast.TagNode:
		return "tags"
	}
	return "such parts of YAML"
}

func (m *node) add(path string, v *ast.MappingValueNode) error {
	key, err := convert(path, v.Key)
	if err != nil {
		return err
	}
	if key.kind != scalar {
		return &Error{path, key.line, "a key is one word"}
	}
	for _, old := range m.keys {
		if old.key == key.text {
			return &Error{path, key.line, fmt.Sprintf("%s stands here twice, first in line %d", key.text, old.line)}
		}
	}
	val, err := convert(path, v.Value)
	if err != nil {
		return err
	}
	if val.null || val.kind != scalar && len(val.keys) == 0 && len(val.items) == 0 {
		val.line = key.line
	}
	m.keys = append(m.keys, pair{key.text, key.line, val})
	return nil
}
