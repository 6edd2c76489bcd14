package lab

import (
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const installScript = "../../deploy/lab/install.sh"

// The script is plain sh, so that it runs before there is a Go toolchain; that
// must not make it forget what the lab needs.
func TestInstallScriptNamesThePackages(t *testing.T) {
	raw, err := os.ReadFile(installScript)
	must(t, err)
	m := regexp.MustCompile(`(?m)^packages='([^']*)'`).FindSubmatch(raw)
	if m == nil {
		t.Fatal("no line packages='…' in the script")
	}
	want := []string{driverPackage}
	for _, n := range needed {
		want = append(want, n.pkg)
	}
	got := strings.Fields(string(m[1]))
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the script installs %v, the lab needs %v", got, want)
	}
}

// Where all is there already, the script does nothing and needs no network.
func TestInstallScriptIsIdempotent(t *testing.T) {
	Require(t)
	out, err := exec.Command("sh", installScript).CombinedOutput()
	if err != nil || bytes.Contains(out, []byte("apt-get")) || !bytes.Contains(out, []byte("nothing to do")) {
		t.Errorf("%v: %s", err, out)
	}
}

func TestSetup(t *testing.T) {
	Require(t)
	var log bytes.Buffer
	if err := Setup(t.Context(), &log); err != nil || strings.Count(log.String(), "\n") < 2 {
		t.Errorf("%v: %s", err, &log)
	}
}

func TestMissingErrorSaysWhatToDo(t *testing.T) {
	for want, e := range map[string]MissingError{
		"a lab cannot run here: the package openipmi is not installed; run: apt-get install -y --no-install-recommends openipmi (or deploy/lab/install.sh)":                      {Packages: []string{"openipmi"}},
		"a lab cannot run here: the packages a, b and c are not installed; run: apt-get install -y --no-install-recommends a b c (or deploy/lab/install.sh); it is not the year": {Packages: []string{"a", "b", "c"}, Reasons: []string{"it is not the year"}},
	} {
		if got := e.Error(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
