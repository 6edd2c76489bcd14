package archtest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Whoever brings a module in says what it is for and who keeps it.
func TestEveryModuleHasAReason(t *testing.T) {
	root := filepath.Join("..", "..")
	page, err := os.ReadFile(filepath.Join(root, "docs", "dependencies.md"))
	if err != nil {
		t.Fatal(err)
	}
	modules := requiredModules(t, root)
	for _, m := range importedModules(t, root, modules) {
		if !bytes.Contains(page, []byte("| `"+m+"` |")) {
			t.Errorf("%s is imported, and docs/dependencies.md has no line for it: say what it is for, why this one and who keeps it", m)
		}
	}
}

// requiredModules are those of go.mod, longest first.
func requiredModules(t *testing.T, root string) []string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	var modules []string
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require ")); len(f) > 1 && strings.HasPrefix(f[1], "v") {
			modules = append(modules, f[0])
		}
	}
	slices.SortFunc(modules, func(a, b string) int { return len(b) - len(a) })
	return modules
}

// importedModules are those that code or tests of ours import themselves.
func importedModules(t *testing.T, root string, modules []string) []string {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-tags", "hashicorpmetrics", "-f",
		`{{range .Imports}}{{.}}{{"\n"}}{{end}}{{range .TestImports}}{{.}}{{"\n"}}{{end}}{{range .XTestImports}}{{.}}{{"\n"}}{{end}}`, "./...")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("list imports: %v", err)
	}
	var found []string
	for imp := range strings.FieldsSeq(string(out)) {
		i := slices.IndexFunc(modules, func(m string) bool { return matches(m+"/...", imp) })
		if i >= 0 && !slices.Contains(found, modules[i]) {
			found = append(found, modules[i])
		}
	}
	if len(found) < 10 {
		t.Fatalf("only %d modules were found: %v", len(found), found)
	}
	return found
}
