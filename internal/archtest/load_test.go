package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const module = "lifeboat"

// pkg is a package of ours. Names of our packages are relative to the module;
// test files are not looked at.
type pkg struct {
	name    string
	imports []string // direct
	deps    []string // all, direct or not
	files   []*file
}

type file struct {
	path      string // relative to the module
	syntax    *ast.File
	fset      *token.FileSet
	lines     int
	generated bool
}

func (f *file) at(n ast.Node) string {
	pos := f.fset.Position(n.Pos())
	return f.path + ":" + itoa(pos.Line)
}

func itoa(n int) string {
	b, _ := json.Marshal(n)
	return string(b)
}

// load reads the module once for all tests.
var load = sync.OnceValues(func() ([]*pkg, error) {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		return nil, err
	}
	// The test cache sees what this process opens, not what 'go list' does: a
	// new file changes a directory.
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && strings.HasPrefix(d.Name(), ".") {
			return fs.SkipDir
		}
		return nil // what vanished while we look is no matter
	})
	if err != nil {
		return nil, err
	}
	// -e: a package that does not compile is the compiler's matter, not ours.
	cmd := exec.Command("go", "list", "-e", "-tags", "hashicorpmetrics",
		"-json=ImportPath,Dir,Imports,Deps,GoFiles,IgnoredGoFiles", "./...")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, errors.Join(err, errors.New(stderr.String()))
	}
	var pkgs []*pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var l struct {
			ImportPath, Dir                        string
			Imports, Deps, GoFiles, IgnoredGoFiles []string
		}
		if err := dec.Decode(&l); errors.Is(err, io.EOF) {
			return pkgs, nil
		} else if err != nil {
			return nil, err
		}
		p := &pkg{name: ours(l.ImportPath), imports: allOurs(l.Imports), deps: allOurs(l.Deps)}
		for _, name := range append(l.GoFiles, l.IgnoredGoFiles...) {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			src, err := os.ReadFile(filepath.Join(l.Dir, name))
			if errors.Is(err, os.ErrNotExist) {
				continue // moved while we look
			}
			if err != nil {
				return nil, err
			}
			f, err := parse(path.Join(p.name, name), src)
			if err != nil {
				continue // the compiler will say it
			}
			p.files = append(p.files, f)
		}
		pkgs = append(pkgs, p)
	}
})

func parse(path string, src []byte) (*file, error) {
	f := &file{path: path, fset: token.NewFileSet(), lines: bytes.Count(src, []byte("\n"))}
	var err error
	f.syntax, err = parser.ParseFile(f.fset, path, src, parser.ParseComments)
	if err == nil {
		f.generated = ast.IsGenerated(f.syntax)
	}
	return f, err
}

func packages(t *testing.T) []*pkg {
	t.Helper()
	pkgs, err := load()
	if err != nil {
		t.Fatalf("list packages: %v", err)
	}
	if len(pkgs) < 10 {
		t.Fatalf("only %d packages were found: the rules would hold for nothing", len(pkgs))
	}
	return pkgs
}

// ours is an import path relative to the module; others keep theirs, with a
// mark when they could be taken for ours.
func ours(importPath string) string {
	if rest, ok := strings.CutPrefix(importPath, module+"/"); ok {
		return rest
	}
	return "+" + importPath
}

func allOurs(paths []string) []string {
	out := make([]string, len(paths))
	for i, p := range paths {
		out[i] = ours(p)
	}
	return out
}

// matches: "a/..." is a and all below it, "a" is a alone.
func matches(pattern, name string) bool {
	if base, ok := strings.CutSuffix(pattern, "/..."); ok {
		return name == base || strings.HasPrefix(name, base+"/")
	}
	return pattern == name
}

func matchesAny(patterns []string, name string) bool {
	for _, p := range patterns {
		if matches(p, name) {
			return true
		}
	}
	return false
}
