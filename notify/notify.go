package notify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Message is one delivery: one notice, or a digest of many.
type Message struct {
	ID      string    `json:"id"` // the same whenever it is sent
	Cluster string    `json:"cluster"`
	Node    string    `json:"node"` // which sends it
	Time    time.Time `json:"time"` // when it was begun
	Sent    time.Time `json:"-"`    // when this attempt was made
	Test    bool      `json:"test,omitempty"`
	Total   int       `json:"total"`          // notices that it stands for
	Lost    uint64    `json:"lost,omitempty"` // that were dropped before they could be sent, ever
	// Notices are at most MaxNotices of them, oldest first.
	Notices []Notice `json:"notices"`
}

// MaxNotices is how many notices of a digest are written out.
const MaxNotices = 100

// Digest: it stands for more than one notice.
func (m *Message) Digest() bool { return m.Total > 1 }

// Notice is what happened to one alert.
type Notice struct {
	Kind       string            `json:"kind"` // opened, reopened, worse, resolved, still (open)
	Alert      uint64            `json:"alert"`
	Type       string            `json:"type"`
	Code       string            `json:"code"` // CloudStack's name of the type
	TypeID     uint32            `json:"type_id"`
	Severity   string            `json:"severity"`
	Subject    string            `json:"subject"` // its id
	Name       string            `json:"name"`    // for people
	Cause      string            `json:"cause"`
	Text       string            `json:"text"`
	Count      uint32            `json:"count"`
	First      time.Time         `json:"first"`
	Since      time.Time         `json:"since"` // since when it is open, or was the last time
	Resolved   time.Time         `json:"resolved,omitzero"`
	Resolution string            `json:"resolution,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"` // of its host
}

// Over: the alert was resolved.
func (n *Notice) Over() bool { return n.Kind == "resolved" }

// Title is one line for people.
func (m *Message) Title() string {
	switch {
	case m.Test:
		return "lifeboat: this is a test"
	case len(m.Notices) == 0:
		return fmt.Sprintf("lifeboat: %d changes of alerts", m.Total)
	case !m.Digest():
		n := &m.Notices[0]
		return fmt.Sprintf("lifeboat: %s %s: %s %s", strings.ToUpper(n.Severity), n.Kind, n.Name, n.Cause)
	}
	return fmt.Sprintf("lifeboat: %d changes of alerts, the most severe is %s", m.Total, m.Worst())
}

// Worst is the greatest severity of the notices that are written out.
func (m *Message) Worst() string {
	worst := "info"
	for i := range m.Notices {
		switch s := m.Notices[i].Severity; {
		case s == "critical", s == "warning" && worst == "info":
			worst = s
		}
	}
	return worst
}

// Text is the whole for people: what, where, since when, why, what to do.
func (m *Message) Text() string {
	var b strings.Builder
	if m.Test {
		fmt.Fprintf(&b, "This is a test of lifeboat's notifications. Nothing has happened.\n")
	}
	if m.Digest() {
		fmt.Fprintf(&b, "%d alerts have changed at once", m.Total)
		if more := m.Total - len(m.Notices); more > 0 {
			fmt.Fprintf(&b, "; the first %d follow, `lifeboat alert list` shows all", len(m.Notices))
		}
		b.WriteString(".\n\n")
	}
	for i := range m.Notices {
		n := &m.Notices[i]
		fmt.Fprintf(&b, "%s, %s: %s %s, %s\n", strings.ToUpper(n.Kind), n.Severity, n.Type, n.Name, n.Cause)
		fmt.Fprintf(&b, "  %s\n", n.Text)
		fmt.Fprintf(&b, "  since %s, raised %d times, alert %d\n", n.Since.UTC().Format(time.RFC3339), n.Count, n.Alert)
		if n.Over() {
			fmt.Fprintf(&b, "  over since %s: %s\n", n.Resolved.UTC().Format(time.RFC3339), n.Resolution)
		}
		b.WriteString("\n")
	}
	if m.Lost > 0 {
		fmt.Fprintf(&b, "In all, %d notices to this receiver were dropped before they could be sent, since it was set up.\n", m.Lost)
	}
	fmt.Fprintf(&b, "Cluster %s, sent by node %s, delivery %s\n", m.Cluster, m.Node, m.ID)
	return b.String()
}

// Target is where and how a message is delivered.
type Target struct {
	Kind    string
	Address string
	Options map[string]string
	Secret  string
}

// Option is one entry of Target.Options that a kind of driver knows.
type Option struct{ Name, Help string }

// Driver delivers messages. A nil error means that the receiver has taken the message.
// It ends with ctx, leaves nothing running behind, and may be called at once from many
// goroutines.
type Driver interface {
	Send(ctx context.Context, m *Message) error
}

// Kind is one kind of driver, as its package offers it.
type Kind struct {
	Name    string
	Address string // what an address is, for people
	Options []Option
	// Open checks the target and makes the driver. It talks to nobody.
	Open func(Target) (Driver, error)
	// Repeat is how often such a target has to be told again of what stays open; 0 =
	// never. nil = no target has to.
	Repeat func(Target) time.Duration
}

// Registry is the set of drivers that a program knows, by name: a value made by
// whoever wires the program.
type Registry map[string]Kind

// NewRegistry makes a registry of the given kinds.
func NewRegistry(kinds ...Kind) Registry {
	r := make(Registry, len(kinds))
	for _, k := range kinds {
		r[k.Name] = k
	}
	return r
}

// Names are the kinds, sorted.
func (r Registry) Names() []string { return slices.Sorted(maps.Keys(r)) }

// Open makes the driver for a target. It refuses unknown kinds and options and
// malformed values with a sentence, and talks to nobody. No error of the driver holds
// the target's secret.
func (r Registry) Open(t Target) (Driver, error) {
	k, ok := r[t.Kind]
	if !ok {
		return nil, fmt.Errorf("there is no kind of receiver %q; known are %s", t.Kind, strings.Join(r.Names(), ", "))
	}
	for _, name := range slices.Sorted(maps.Keys(t.Options)) {
		if !slices.ContainsFunc(k.Options, func(o Option) bool { return o.Name == name }) {
			known := make([]string, len(k.Options))
			for i, o := range k.Options {
				known[i] = o.Name
			}
			return nil, fmt.Errorf("%s knows no option %q; known are %s", t.Kind, name, strings.Join(known, ", "))
		}
	}
	d, err := k.Open(t)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", t.Kind, t.redact(err))
	}
	return &discreet{d, t}, nil
}

// Repeat is how often a target, which Open has let pass, has to be told again of what
// stays open; 0 = never.
func (r Registry) Repeat(t Target) time.Duration {
	if k := r[t.Kind]; k.Repeat != nil {
		return k.Repeat(t)
	}
	return 0
}

// discreet keeps the secret out of what a driver says.
type discreet struct {
	Driver
	t Target
}

func (d *discreet) Send(ctx context.Context, m *Message) error {
	return d.t.redact(d.Driver.Send(ctx, m))
}

func (t Target) redact(err error) error {
	if err == nil || len(t.Secret) < 4 || !strings.Contains(err.Error(), t.Secret) {
		return err
	}
	return errors.New(strings.ReplaceAll(err.Error(), t.Secret, "[hidden]"))
}
