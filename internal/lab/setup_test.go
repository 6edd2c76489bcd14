package lab

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
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

// On a bare machine it installs everything, and a package list is fetched first.
func TestInstallScriptOnABareMachine(t *testing.T) {
	if !installed("dpkg-query") || os.Geteuid() != 0 {
		t.Skip("needs Debian and root")
	}
	bare, bin := t.TempDir(), t.TempDir()
	for _, d := range []string{"updates", "info"} {
		must(t, os.Mkdir(filepath.Join(bare, d), 0o755))
	}
	must(t, os.WriteFile(filepath.Join(bare, "status"), nil, 0o644))
	must(t, os.WriteFile(filepath.Join(bin, "apt-get"), []byte("#!/bin/sh\necho apt-get \"$@\"\n"), 0o755))
	cmd := exec.Command("sh", installScript)
	cmd.Env = []string{"DPKG_ADMINDIR=" + bare, "PATH=" + bin + ":" + systemPath}
	out, err := cmd.CombinedOutput()
	calls := regexp.MustCompile(`(?m)^apt-get .*`).FindAllString(string(out), -1)
	if err != nil || len(calls) != 2 || !strings.Contains(calls[0], "update") || !strings.Contains(calls[1], "--no-install-recommends") {
		t.Fatalf("%v: %s", err, out)
	}
	for _, n := range needed {
		if !strings.Contains(calls[1]+" ", " "+n.pkg+" ") {
			t.Errorf("%s is not installed by %s", n.pkg, calls[1])
		}
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
