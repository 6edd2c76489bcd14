package archtest

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strings"
	"testing"
)

// What a file should not exceed, and what it must not: a longer one has more
// than one subject.
const (
	softLines = 450
	hardLines = 600
)

func TestFilesHaveOneSubject(t *testing.T) {
	for _, p := range packages(t) {
		for _, f := range p.files {
			switch {
			case f.generated:
			case f.lines > hardLines:
				t.Errorf("%s has %d lines, more than %d: split it by noun", f.path, f.lines, hardLines)
			case f.lines > softLines:
				t.Logf("%s has %d lines, more than %d", f.path, f.lines, softLines)
			}
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	for _, p := range packages(t) {
		if problem := checkDoc(p); problem != "" {
			t.Error(problem)
		}
	}
}

// checkDoc: a package of a single file may say it there.
func checkDoc(p *pkg) string {
	var written []*file
	for _, f := range p.files {
		if !f.generated {
			written = append(written, f)
		}
	}
	for _, f := range written {
		if path.Base(f.path) != "doc.go" && len(written) > 1 {
			continue
		}
		if f.syntax.Doc == nil {
			return f.path + " has no package comment: say purpose, contract and who may call"
		}
		return ""
	}
	if len(written) == 0 {
		return "" // its .proto file says it
	}
	return p.name + " has no doc.go: say purpose, contract and who may call"
}

// linkerSet are variables that the linker sets; nothing else may.
func linkerSet() []string { return []string{"cmd/lifeboat.version"} }

func TestNoHiddenState(t *testing.T) {
	for _, p := range packages(t) {
		for _, problem := range checkState(p) {
			t.Error(problem)
		}
	}
}

// checkState finds init functions and package-level variables that can change.
func checkState(p *pkg) (problems []string) {
	written := writtenNames(p)
	for _, f := range p.files {
		if f.generated {
			continue
		}
		for _, decl := range f.syntax.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Name.Name == "init" && d.Recv == nil {
					problems = append(problems, f.at(d)+" is an init function: importing a package must not do anything; build the value where it is used")
				}
			case *ast.GenDecl:
				if d.Tok != token.VAR {
					continue
				}
				for _, spec := range d.Specs {
					problems = append(problems, checkVar(p, f, d, spec.(*ast.ValueSpec), written)...)
				}
			}
		}
	}
	return problems
}

func checkVar(p *pkg, f *file, d *ast.GenDecl, spec *ast.ValueSpec, written map[string]string) (problems []string) {
	for i, name := range spec.Names {
		if name.Name == "_" || slices.Contains(linkerSet(), p.name+"."+name.Name) {
			continue
		}
		if where := written[name.Name]; where != "" {
			problems = append(problems, fmt.Sprintf("%s is written at %s: state belongs into a value that has an owner", f.at(name)+" "+name.Name, where))
			continue
		}
		if embedded(d, spec) || i < len(spec.Values) && constantLike(spec.Values[i]) {
			continue
		}
		problems = append(problems, fmt.Sprintf("%s %s is a package-level variable that is neither a sentinel error, a compiled pattern, embedded nor a table: state belongs into a value that has an owner", f.at(name), name.Name))
	}
	return problems
}

// constantLike: values that Go has no constants for. Whether someone changes a
// table after all is for writtenNames.
func constantLike(value ast.Expr) bool {
	switch v := value.(type) {
	case *ast.BasicLit:
		return true
	case *ast.CompositeLit: // a table; a struct may have methods that change it
		switch v.Type.(type) {
		case *ast.ArrayType, *ast.MapType:
			return true
		}
	case *ast.CallExpr:
		switch fun := v.Fun.(type) {
		case *ast.SelectorExpr:
			x, ok := fun.X.(*ast.Ident)
			return ok && slices.Contains([]string{"errors.New", "fmt.Errorf", "connect.NewError", "regexp.MustCompile", "strings.NewReplacer", "netip.MustParsePrefix", "netip.MustParseAddr"}, x.Name+"."+fun.Sel.Name)
		case *ast.ArrayType: // []byte("text")
			return true
		}
	}
	return false
}

func embedded(d *ast.GenDecl, spec *ast.ValueSpec) bool {
	for _, doc := range []*ast.CommentGroup{d.Doc, spec.Doc} {
		if doc == nil {
			continue
		}
		for _, c := range doc.List {
			if strings.HasPrefix(c.Text, "//go:embed ") {
				return true
			}
		}
	}
	return false
}

// writtenNames are the package-level variables that functions assign to, whole
// or in part, or take the address of; with the place. Locals of the same name
// are told apart by the parser's resolution within a file.
func writtenNames(p *pkg) map[string]string {
	written := map[string]string{}
	for _, f := range p.files {
		note := func(e ast.Expr) {
			if id := root(e); id != nil && !local(f, id) {
				written[id.Name] = f.at(id)
			}
		}
		for _, decl := range f.syntax.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(fn, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.AssignStmt:
					for _, lhs := range n.Lhs {
						note(lhs)
					}
				case *ast.IncDecStmt:
					note(n.X)
				case *ast.UnaryExpr:
					if n.Op == token.AND {
						note(n.X)
					}
				case *ast.CallExpr:
					if id, ok := n.Fun.(*ast.Ident); ok && (id.Name == "delete" || id.Name == "clear") {
						note(n.Args[0])
					}
				}
				return true
			})
		}
	}
	return written
}

// root is the variable that an expression like v.f[i] is part of.
func root(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.SelectorExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return nil
		}
	}
}

// local: the parser resolves names declared in functions and those declared at
// the top of the same file; names of other files stay unresolved.
func local(f *file, id *ast.Ident) bool {
	if id.Name == "_" {
		return true
	}
	return id.Obj != nil && f.syntax.Scope.Lookup(id.Name) != id.Obj
}
