package docstest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if socket := os.Getenv(chassisEnv); socket != "" {
		os.Exit(chassis(socket, os.Args[1:]))
	}
	os.Exit(m.Run())
}

// TestOperations executes docs/operations.md. LIFEBOAT_DOCS=1 has it done. LIFEBOAT_DEB
// names the package; without it one is made, for which VERSION, TAGS and NFPM are as
// the Makefile says. For those who write the page: LIFEBOAT_DOCS_SHOW=1 shows what
// each command prints, LIFEBOAT_DOCS_GO_ON=1 goes on after a failure.
func TestOperations(t *testing.T) {
	if os.Getenv("LIFEBOAT_DOCS") != "1" {
		t.Skip("left to make test-docs")
	}
	if os.Getenv(roomEnv) == "" {
		if why := missing(); why != "" {
			t.Skipf("SKIP: test-docs did not run: %s", why)
		}
		if _, err := fetch(t.Context()); err != nil {
			t.Skipf("SKIP: test-docs did not run: %v", err)
		}
		deb, err := makePackage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv("LIFEBOAT_DEB", deb)
		if err := inRoom("-test.run=^TestOperations$", "-test.v", "-test.timeout=20m"); err != nil {
			t.Fatal(err)
		}
		return
	}
	began := time.Now()
	ctx := t.Context()
	room, err := openRoom(ctx)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	steps, err := parse(string(raw))
	if err != nil {
		t.Fatalf("docs/operations.md: %v", err)
	}
	log := func(format string, args ...any) {
		fmt.Printf("%6.1fs  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	machines, err := build(ctx, room, steps, log)
	switch {
	case errors.Is(err, errNoMachines):
		t.Skipf("SKIP: test-docs did not run: %v", err)
	case err != nil:
		t.Fatal(err)
	}
	log("%d machines are up", len(machines))
	known := map[string]string{}
	executed := 0
	var notRun []string
	for _, s := range steps {
		if s.notRun != "" {
			notRun = append(notRun, fmt.Sprintf("line %d: %s: %s", s.line, s.notRun, first(s.command)))
			continue
		}
		log("line %d, %s: %s", s.line, s.machine, first(s.command))
		if err := execute(ctx, machines[s.machine], s, known); err != nil {
			if os.Getenv("LIFEBOAT_DOCS_GO_ON") == "" {
				tell(ctx, machines)
				t.Fatalf("docs/operations.md:%d: on %s: %s\n%v", s.line, s.machine, s.command, err)
			}
			t.Errorf("docs/operations.md:%d: on %s: %s\n%v", s.line, s.machine, s.command, err)
			continue
		}
		executed++
	}
	if t.Failed() {
		return
	}
	log("%d commands of docs/operations.md did what it says; %d are shown only", executed, len(notRun))
	for _, line := range notRun {
		fmt.Println("  not run: " + line)
	}
}

// execute does one step, again and again where the document says that it takes
// some time.
func execute(ctx context.Context, m *machine, s step, known map[string]string) error {
	end := time.Now().Add(s.until)
	for {
		ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
		printed, code, err := m.run(ctx, s.root, s.command, known)
		cancel()
		var found map[string]string
		if err == nil && code != s.exit {
			err = fmt.Errorf("exit code %d, not %d", code, s.exit)
		}
		if err == nil {
			found, err = match(s.output, printed, known)
		}
		if err == nil {
			if os.Getenv("LIFEBOAT_DOCS_SHOW") != "" {
				fmt.Println(strings.TrimRight(printed, "\n"))
			}
			for name, value := range found {
				known[name] = value
			}
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%w\nit printed:\n%s", err, printed)
		}
		time.Sleep(300 * time.Millisecond)
	}
}

// build makes and boots every machine that the document names, with the package in
// root's home.
func build(ctx context.Context, room string, steps []step, log func(string, ...any)) (map[string]*machine, error) {
	archives, err := fetch(ctx)
	if err != nil {
		return nil, err
	}
	debs, err := filepath.Glob(filepath.Join(archives, "*.deb"))
	if err != nil {
		return nil, err
	}
	shared := filepath.Join(room, "shared")
	names := map[string]*machine{}
	var sorted []string
	for _, s := range steps {
		if names[s.machine] == nil {
			names[s.machine] = &machine{}
			sorted = append(sorted, s.machine)
		}
	}
	sort.Strings(sorted)
	for _, name := range sorted {
		number := byte(9)
		if n, ok := strings.CutPrefix(name, "n"); ok {
			if _, err := fmt.Sscan(n, &number); err != nil || number > 8 {
				return nil, fmt.Errorf("there is no machine %s; n1 to n8 and you", name)
			}
		} else if name != person {
			return nil, fmt.Errorf("there is no machine %s; n1 to n8 and you", name)
		}
		m, err := newMachine(ctx, room, name, fmt.Sprintf("10.0.0.%d", number))
		if err != nil {
			return nil, err
		}
		if name != person {
			m.shared = shared
			if err := startBMC(ctx, room, m, fmt.Sprintf("10.0.0.%d", 100+int(number)), number, log); err != nil {
				return nil, err
			}
		} else if _, err := tool(ctx, "chroot", m.root, "useradd", "--create-home", "--shell", "/bin/bash", person); err != nil {
			return nil, err
		}
		if err := script(ctx, "cp "+os.Getenv("LIFEBOAT_DEB")+" "+m.dir+"/home/lifeboat.deb",
			"cp "+strings.Join(debs, " ")+" "+m.root+"/var/cache/apt/archives"); err != nil {
			return nil, err
		}
		if err := m.boot(ctx); err != nil {
			return nil, fmt.Errorf("%w: %w", errNoMachines, err)
		}
		names[name] = m
	}
	return names, nil
}

// tell prints what helps to find out why something failed.
func tell(ctx context.Context, machines map[string]*machine) {
	for name, m := range machines {
		if out, _, err := m.run(ctx, true, "systemctl --no-pager --failed --plain; journalctl --no-pager -n 25 -u lifeboat-server -u lifeboat-agent -u libvirtd", nil); err == nil {
			fmt.Printf("---- %s\n%s\n", name, out)
		}
	}
}

func first(command string) string {
	line, _, more := strings.Cut(command, "\n")
	if more {
		line += " ..."
	}
	return line
}
