package fencetest

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"lifeboat/fence"
)

// Fault is what is wrong with a controller.
type Fault string

const (
	Slow     Fault = "slow"     // answers after about a second
	Hung     Fault = "hung"     // takes questions and does not answer for half a minute
	Down     Fault = "down"     // cannot be reached
	Erring   Fault = "erring"   // answers orders with an error and does nothing
	Lying    Fault = "lying"    // answers orders with success and does nothing
	Flapping Fault = "flapping" // every other reading is off, those between are on
)

// Rig is a controller with a machine behind it, fresh for each test; it is torn
// down by t.Cleanup.
type Rig interface {
	Kind() fence.Kind
	Target() fence.Target // with the right user and password
	Identity() string
	SetPower(t *testing.T, on bool)
	Power(t *testing.T) bool
	// Orders counts the orders to switch off that reached the controller.
	Orders(t *testing.T) int
	Inject(t *testing.T, f Fault)
	// Leftovers describes the processes and sessions that the driver left behind.
	Leftovers(t *testing.T) []string
}

// Machine is a power switch in a folder, for devices that are shell scripts:
// the file power holds 0 or 1, orders one line per order, fault the fault.
type Machine struct{ Dir string }

// NewMachine makes a machine that is on.
func NewMachine(t *testing.T) Machine {
	t.Helper()
	m := Machine{Dir: t.TempDir()}
	m.write(t, "orders", "")
	m.write(t, "reads", "")
	m.write(t, "fault", "")
	m.SetPower(t, true)
	return m
}

func (m Machine) SetPower(t *testing.T, on bool) {
	t.Helper()
	text := "0"
	if on {
		text = "1"
	}
	m.write(t, "power", text)
}

func (m Machine) Power(t *testing.T) bool {
	t.Helper()
	return strings.TrimSpace(m.read(t, "power")) == "1"
}

func (m Machine) Orders(t *testing.T) int {
	t.Helper()
	return strings.Count(m.read(t, "orders"), "\n")
}

func (m Machine) Inject(t *testing.T, f Fault) {
	t.Helper()
	m.write(t, "fault", string(f))
}

// ScriptHead are shell functions for devices: get_power prints 0 or 1 (honouring
// flapping), set_power takes 0 or 1 and returns 1 when erring.
func (m Machine) ScriptHead() string {
	return "#!/bin/sh\nd='" + m.Dir + "'\nfault=$(cat \"$d/fault\")\n" + `
get_power() {
  if [ "$fault" = flapping ]; then
    echo >>"$d/reads"; n=$(wc -l <"$d/reads"); echo $(( (n + 1) % 2 )); return
  fi
  cat "$d/power"
}
set_power() {
  [ "$1" = 0 ] && echo off >>"$d/orders"
  case $fault in
    erring) return 1 ;;
    lying|flapping) return 0 ;;
  esac
  echo "$1" >"$d/power"
}
`
}

func (m Machine) write(t *testing.T, name, text string) {
	t.Helper()
	// Renamed into place: a script never reads half a file.
	tmp := filepath.Join(m.Dir, name+".new")
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(m.Dir, name)); err != nil {
		t.Fatal(err)
	}
}

func (m Machine) read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(m.Dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Processes lists the live processes whose command line contains marker.
func Processes(t *testing.T, marker string) []string {
	t.Helper()
	var found []string
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		if pid, _ := strconv.Atoi(filepath.Base(dir)); pid == os.Getpid() {
			continue
		}
		// Zombies have no command line: they are gone but not yet collected.
		line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err == nil && bytes.Contains(line, []byte(marker)) {
			found = append(found, filepath.Base(dir)+": "+string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		}
	}
	return found
}

// Eventually waits for the outside world, which has no virtual time.
func Eventually(t *testing.T, what string, limit time.Duration, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}
