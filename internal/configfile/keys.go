package configfile

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// root is the mapping that the file consists of; nil: it is none.
func (c *checker) root() ast.Node {
	if c.tree == nil || len(c.tree.Docs) == 0 {
		return nil
	}
	return c.tree.Docs[0].Body
}

// entries are the keys of a mapping with what they stand for.
func entries(n ast.Node) []*ast.MappingValueNode {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}
	}
	return nil
}

// kind is found from the keys: whoever knows more of them.
func (c *checker) kind() Kind {
	server, agent := 0, 0
	for _, e := range entries(c.root()) {
		_, s := keysOf(Server)[keyOf(e)]
		_, a := keysOf(Agent)[keyOf(e)]
		if s && !a {
			server++
		}
		if a && !s {
			agent++
		}
	}
	switch {
	case server > agent:
		return Server
	case agent > server:
		return Agent
	}
	return ""
}

func keyOf(e *ast.MappingValueNode) string { return e.Key.GetToken().Value }

// unknown finds keys that nobody reads.
func (c *checker) unknown(kind Kind) { c.unknownIn(c.root(), keysOf(kind), "") }

func (c *checker) unknownIn(n ast.Node, known keys, above string) {
	for _, e := range entries(n) {
		key := keyOf(e)
		below, ok := known[key]
		if ok && below != nil {
			c.unknownIn(e.Value, below, above+key+".")
		}
		if ok {
			continue
		}
		f := Finding{Severity: Wrong, Key: above + key, Line: e.Key.GetToken().Position.Line, Problem: "there is no such key", Do: "remove it, or correct its indentation"}
		if near := nearest(key, known); near != "" {
			f.Do = fmt.Sprintf("did you mean %s%s?", above, near)
		}
		c.list = append(c.list, f)
	}
}

// nearest is the known key that is meant, probably; empty: none is near.
func nearest(key string, known keys) string {
	best, least := "", max(2, len(key)/3)+1
	for _, k := range slices.Sorted(maps.Keys(known)) {
		if d := distance(strings.ToLower(key), k); d < least {
			best, least = k, d
		}
	}
	return best
}

// distance is the number of letters to add, remove, replace or swap with the next
// one to make b of a.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

// line is where a key stands; 0: nowhere.
func (c *checker) line(key string) int {
	if c.tree == nil || key == "" {
		return 0
	}
	path, err := yaml.PathString("$." + key)
	if err != nil {
		return 0
	}
	n, err := path.FilterFile(c.tree)
	if err != nil || n == nil || n.GetToken() == nil {
		return 0
	}
	if _, section := n.(*ast.MappingNode); section {
		return max(n.GetToken().Position.Line-1, 1)
	}
	return n.GetToken().Position.Line
}
