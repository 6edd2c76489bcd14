package dev

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Request is what a running room is asked to do.
type Request struct {
	Verb string `json:"verb"`
	Name string `json:"name"` // of a host, a node or a VM; "leader" is the machine of the leader
}

// The verbs of a Request.
const (
	VerbKill      = "kill"
	VerbPanic     = "panic"
	VerbStart     = "start"
	VerbStopAgent = "stop-agent"
	VerbCrash     = "crash"
	VerbShutdown  = "shutdown"
	VerbList      = "list"
)

type reply struct {
	Text  string `json:"text"`
	Error string `json:"error"`
}

// ErrNotRunning: there is no room to talk to.
var ErrNotRunning = errors.New("no 'lifeboat dev' is running")

const (
	controlTimeout = 15 * time.Second
	maxRequest     = 4096 // bytes
)

func socketPath(runtime string) string { return filepath.Join(runtime, "control.sock") }

// Send asks the room of a runtime directory to do something, and returns what
// it says to that.
func Send(ctx context.Context, runtime string, q Request) (string, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socketPath(runtime))
	if err != nil {
		return "", fmt.Errorf("%w (%w)", ErrNotRunning, err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(controlTimeout))
	if err := json.NewEncoder(conn).Encode(q); err != nil {
		return "", fmt.Errorf("ask 'lifeboat dev': %w", err)
	}
	var r reply
	if err := json.NewDecoder(conn).Decode(&r); err != nil {
		return "", fmt.Errorf("ask 'lifeboat dev': %w", err)
	}
	if r.Error != "" {
		return "", errors.New(r.Error)
	}
	return r.Text, nil
}

// Serve answers requests until ctx ends.
func (r *Room) Serve(ctx context.Context) error {
	path := socketPath(r.opts.Runtime)
	_ = os.Remove(path) // of a room that was killed; we hold its lock
	l, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("listen for commands: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("listen for commands: %w", err)
		}
		go r.answer(ctx, conn)
	}
}

func (r *Room) answer(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(controlTimeout))
	var q Request
	if err := json.NewDecoder(io.LimitReader(conn, maxRequest)).Decode(&q); err != nil {
		return
	}
	text, err := r.Do(ctx, q)
	out := reply{Text: text}
	if err != nil {
		out.Error = err.Error()
	}
	_ = json.NewEncoder(conn).Encode(out)
}

// Do carries out a request, and says what it has done.
func (r *Room) Do(ctx context.Context, q Request) (string, error) {
	switch q.Verb {
	case VerbList:
		return r.list()
	case VerbCrash, VerbShutdown:
		return r.guestDoes(q.Verb, q.Name)
	}
	m := r.machine(q.Name)
	if q.Name == "leader" {
		var err error
		if m, err = r.leaderMachine(ctx); err != nil {
			return "", err
		}
	}
	if m == nil {
		return "", fmt.Errorf("there is no machine %q; there are %s, and leader", q.Name, strings.Join(r.names(), ", "))
	}
	alone := m.node == q.Name // the management node, and not its machine
	switch q.Verb {
	case VerbKill, VerbPanic:
		return r.kill(m, alone, q.Verb == VerbKill)
	case VerbStart:
		return r.switchOn(m)
	case VerbStopAgent:
		return r.stopAgent(m)
	}
	return "", fmt.Errorf("%q is nothing that can be asked for", q.Verb)
}

func (r *Room) names() []string {
	var names []string
	for _, m := range r.machines {
		names = append(names, m.name)
	}
	for _, m := range r.machines {
		if m.node != "" {
			names = append(names, m.node)
		}
	}
	return names
}

func (r *Room) kill(m *Machine, nodeOnly, power bool) (string, error) {
	if nodeOnly {
		manager, _ := m.processes()
		if !manager.running() {
			return "", fmt.Errorf("management node %s is not running", m.node)
		}
		manager.kill()
		return fmt.Sprintf("management node %s is killed; host %s on the same machine goes on", m.node, m.name), nil
	}
	if !m.isAlive() {
		return "", fmt.Errorf("machine %s is dead already; bring it back with 'lifeboat dev start %s'", m.name, m.name)
	}
	r.cut(m, power)
	what := "lost its power"
	if !power {
		what = "stopped with a panic of its kernel; its power stays on"
	}
	text := fmt.Sprintf("machine %s has %s: host %s", m.name, what, m.name)
	if m.node != "" {
		text += " and management node " + m.node
	}
	return text + " ended in an instant", nil
}

func (r *Room) switchOn(m *Machine) (string, error) {
	if !m.isAlive() {
		r.cut(m, true)
		if err := r.setPower(m, true); err != nil {
			return "", err
		}
		return fmt.Sprintf("machine %s boots; the VMs on its disk are off", m.name), nil
	}
	if manager, agent := m.processes(); agent.running() && (m.node == "" || manager.running()) {
		return "", fmt.Errorf("machine %s is running", m.name)
	}
	if err := r.resume(m); err != nil {
		return "", err
	}
	return fmt.Sprintf("everything on machine %s runs again", m.name), nil
}

func (r *Room) stopAgent(m *Machine) (string, error) {
	_, agent := m.processes()
	if !agent.running() {
		return "", fmt.Errorf("the agent of host %s is not running", m.name)
	}
	agent.stop(5 * time.Second)
	return fmt.Sprintf("the agent of host %s was stopped cleanly; 'lifeboat dev start %s' starts it again", m.name, m.name), nil
}

func (r *Room) guestDoes(verb, name string) (string, error) {
	g := r.guest(name)
	if g == nil {
		return "", fmt.Errorf("there is no VM %q; 'lifeboat vm list' shows them", name)
	}
	j, err := readJournal(r.journal)
	if err != nil {
		return "", err
	}
	s, runs := j.where(g.id, r.Deaths())
	if !runs {
		return "", fmt.Errorf("VM %s is not running", g.name)
	}
	if err := r.machine(s.Host).tell(verb, g); err != nil {
		return "", err
	}
	if verb == VerbCrash {
		return fmt.Sprintf("VM %s on host %s crashes", g.name, s.Host), nil
	}
	return fmt.Sprintf("VM %s on host %s shuts down from inside: it stays off, unless its policy says otherwise", g.name, s.Host), nil
}

// list shows the room as it really is.
func (r *Room) list() (string, error) {
	j, err := readJournal(r.journal)
	if err != nil {
		return "", err
	}
	deaths := r.Deaths()
	rows := [][]string{{"MACHINE", "POWER", "NODE", "AGENT", "VMS THAT REALLY RUN"}}
	for _, m := range r.machines {
		power, node := "off", "-"
		if m.isOn() {
			power = "on"
			if !m.isAlive() {
				power = "on, but dead"
			}
		}
		manager, agent := m.processes()
		if m.node != "" {
			node = m.node + " " + upDown(manager)
		}
		var vms []string
		for _, g := range r.guests {
			if s, ok := j.where(g.id, deaths); ok && s.Host == m.name {
				vms = append(vms, g.name)
			}
		}
		rows = append(rows, []string{m.name, power, node, upDown(agent), orDash(strings.Join(vms, " "))})
	}
	return strings.Join(columns(rows), "\n"), nil
}

func upDown(p *process) string {
	if p.running() {
		return "runs"
	}
	return "stopped"
}
