package dev

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Bounds of the parts of a drill, generous: a slow machine is no failure.
const (
	settleWithin = 45 * time.Second
	roundWithin  = 60 * time.Second
	returnWithin = 30 * time.Second
	agreeWithin  = 10 * time.Second
)

// ErrDrill: the cluster did not do what it promises.
var ErrDrill = errors.New("the drill failed")

// drill is one run of it.
type drill struct {
	room   *Room
	to     Teller
	story  *story
	zero   time.Time // of the fault that is talked about
	rounds []*round
	broken []string // checks that failed
}

// round is one fault and what came of it.
type round struct {
	title string
	hosts []string // that died in it
	fault time.Time
	order time.Duration // fault → first start order
	last  time.Duration // fault → last VM runs
	limit time.Duration // what is promised for order
	lost  []lostVM
}

// lostVM is a VM that ran on a host when it died.
type lostVM struct {
	guest *guest
	from  string
	begin string // incarnation it had
	to    string
	now   string // incarnation it has
	down  time.Duration
}

// Drill kills a host, then the machine of the leader together with its host,
// brings both back, and tells what happens. The error wraps ErrDrill when the
// cluster did not do what it promises, and names the checks that failed.
func Drill(ctx context.Context, r *Room, to Teller) ([]Figure, error) {
	d := &drill{room: r, to: to, zero: time.Now()}
	began := d.zero
	if err := d.run(ctx); err != nil {
		return nil, err
	}
	d.table()
	d.to.title("Checks")
	if err := d.check(ctx); err != nil {
		return nil, err
	}
	if len(d.broken) > 0 {
		return nil, fmt.Errorf("%w: %s", ErrDrill, strings.Join(d.broken, "; "))
	}
	d.to.title("The drill passed in %.0f s. To break it yourself: lifeboat dev", time.Since(began).Seconds())
	var figures []Figure
	for i, r := range d.rounds {
		figures = append(figures, Figure{Name: []string{"host", "leader"}[i], Order: r.order.Seconds(), Runs: r.last.Seconds(), Promised: r.limit.Seconds()})
	}
	return figures, nil
}

// Figure is what one round of a drill took, in seconds from the fault.
type Figure struct {
	Name     string  `json:"name"`            // host, or leader: the leader's machine died too
	Order    float64 `json:"order_seconds"`   // first order to start a VM elsewhere
	Runs     float64 `json:"running_seconds"` // the last VM runs
	Promised float64 `json:"promised_seconds"`
}

func (d *drill) run(ctx context.Context) error {
	promised := 12 * time.Second
	if d.room.opts.Lease {
		promised = 30 * time.Second
	}
	if err := d.settle(ctx); err != nil {
		return err
	}
	if err := d.round(ctx, "Round 1: the power of host h4 fails.", promised, d.room.machine("h4"), true); err != nil {
		return err
	}
	m, err := d.room.leaderMachine(ctx)
	if err != nil {
		return err
	}
	title := fmt.Sprintf("Round 2: the kernel of machine %s panics: the leader %s dies with its host. Power stays on. Nothing was repaired.", m.name, m.node)
	if err := d.round(ctx, title, promised+3*time.Second, m, false); err != nil {
		return err
	}
	return d.comeBack(ctx)
}

func (d *drill) stamp(at time.Time) string {
	return fmt.Sprintf("%+6.1f s", max(at.Sub(d.zero), 0).Seconds())
}

func (d *drill) settle(ctx context.Context) error {
	d.to.line(bold, "Three management nodes and four hosts start, with twelve VMs on them.")
	ctx, cancel := context.WithTimeoutCause(ctx, settleWithin, errors.New("time is up"))
	defer cancel()
	err := d.room.Settle(ctx, func(what string) { d.to.line(faint, "  %s  waiting for %s", d.stamp(time.Now()), what) })
	if err != nil {
		return d.unless(ctx, fmt.Errorf("%w: the cluster did not become ready: %w", ErrDrill, err))
	}
	d.story, err = d.room.newStory(ctx, d.to, d.stamp)
	if err != nil {
		return d.unless(ctx, err)
	}
	d.to.line(good, "  %s  all are Up, every VM runs, is protected and has its definition in the log; %s leads", d.stamp(time.Now()), d.story.leader)
	return nil
}

// unless is err, except when somebody has interrupted.
func (d *drill) unless(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return context.Cause(ctx)
	}
	return err
}

// round kills a machine and waits until every VM runs again.
func (d *drill) round(ctx context.Context, title string, limit time.Duration, m *Machine, power bool) error {
	r := &round{title: title, hosts: []string{m.name}, limit: limit}
	vms, err := d.room.cluster.vms(ctx)
	if err != nil {
		return fmt.Errorf("look before the fault: %w", err)
	}
	for _, v := range vms {
		if v.Host == m.name {
			r.lost = append(r.lost, lostVM{guest: d.room.guest(v.Id), from: m.name, begin: v.Incarnation})
		}
	}
	d.rounds = append(d.rounds, r)
	d.to.title("%s", title)
	death := d.room.cut(m, power)
	r.fault, d.zero = death.Begin, death.Begin
	d.story.tell(death.End, bad, "everything on %s is dead: %s", m.name, r.names())

	ctx, cancel := context.WithTimeoutCause(ctx, roundWithin, errors.New("time is up"))
	defer cancel()
	for {
		if err := d.follow(ctx); err != nil {
			return err
		}
		missing, err := d.recovered(ctx, r)
		if err == nil && missing == "" {
			break
		}
		if ctx.Err() != nil {
			return d.unless(ctx, fmt.Errorf("%w: %.0f s after the fault %s", ErrDrill, time.Since(r.fault).Seconds(), missing))
		}
	}
	if err := d.follow(ctx); err != nil {
		return err
	}
	return d.measure(ctx, r)
}

func (r *round) names() string {
	var names []string
	for _, l := range r.lost {
		names = append(names, l.guest.name)
	}
	return "it ran " + strings.Join(names, ", ")
}

// follow tells what is new. That nobody answers for a while is part of the
// story; that a process dies by itself is its end.
func (d *drill) follow(ctx context.Context) error {
	select {
	case err := <-d.room.failed:
		return fmt.Errorf("%w: %w", ErrDrill, err)
	default:
	}
	if err := d.story.step(ctx, lookEvery); err != nil {
		sleep(ctx, lookEvery)
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return context.Cause(ctx)
	}
	return nil
}

// recovered says what is missing until every VM runs again.
func (d *drill) recovered(ctx context.Context, r *round) (missing string, err error) {
	missing = "nobody has answered yet"
	vms, err := d.room.cluster.vms(ctx)
	if err != nil {
		return missing, err
	}
	var not []string
	for _, v := range vms {
		if !running(v) || slices.Contains(r.hosts, v.Host) {
			not = append(not, fmt.Sprintf("%s (%s on %s)", v.Name, v.Power, v.Host))
		}
	}
	if len(not) > 0 {
		return "these VMs do not run: " + strings.Join(not, ", "), nil
	}
	return "", nil
}

// measure takes the figures of a round from the journal, not from the cluster.
func (d *drill) measure(ctx context.Context, r *round) error {
	j, err := readJournal(d.room.journal)
	if err != nil {
		return err
	}
	vms, err := d.room.cluster.vms(ctx)
	if err != nil {
		return err
	}
	for i := range r.lost {
		l := &r.lost[i]
		for _, s := range j.stays(l.guest.id, d.room.Deaths()) {
			if s.Begin.After(r.fault) {
				l.to, l.down = s.Host, s.Begin.Sub(r.fault)
				r.last = max(r.last, l.down)
			}
		}
		for _, v := range vms {
			if v.Id == l.guest.id.String() {
				l.now = v.Incarnation
			}
		}
	}
	r.order = d.story.times[r.hosts[0]].fenced.Sub(r.fault)
	c := good
	if r.order > r.limit {
		c = bad // no failure of the drill: this machine may be slow
	}
	d.to.line(c, "  First start order %.1f s after the fault (promised: at most %.0f s), the last of %d VMs ran after %.1f s.",
		r.order.Seconds(), r.limit.Seconds(), len(r.lost), r.last.Seconds())
	return nil
}

// comeBack repairs everything and waits until the cluster is whole.
func (d *drill) comeBack(ctx context.Context) error {
	var names []string
	for _, r := range d.rounds {
		names = append(names, r.hosts...)
	}
	d.to.title("Afterwards: %s are repaired and switched on.", strings.Join(names, " and "))
	d.zero = time.Now()
	for _, name := range names {
		m := d.room.machine(name)
		d.room.cut(m, true) // one that has panicked is still on
		if err := d.room.setPower(m, true); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, returnWithin, errors.New("time is up"))
	defer cancel()
	for {
		if err := d.follow(ctx); err != nil {
			return err
		}
		missing, err := d.room.allUp(ctx)
		if err == nil && missing == "" {
			missing, err = d.recovered(ctx, &round{})
		}
		if err == nil && missing == "" {
			break
		}
		if ctx.Err() != nil {
			return d.unless(ctx, fmt.Errorf("%w: %.0f s after the repair we still wait for %s", ErrDrill, time.Since(d.zero).Seconds(), missing))
		}
	}
	if err := d.follow(ctx); err != nil {
		return err
	}
	d.story.tell(time.Now(), good, "all nodes and hosts are Up again, and every VM runs where it was")
	return nil
}

// table shows what became of the VMs that were lost.
func (d *drill) table() {
	d.to.title("What became of the VMs")
	rows := [][]string{{"ROUND", "VM", "FROM", "TO", "INCARNATION", "DOWNTIME"}}
	lost := map[string]bool{}
	for i, r := range d.rounds {
		for _, l := range r.lost {
			lost[l.guest.name] = true
			rows = append(rows, []string{fmt.Sprint(i + 1), l.guest.name, l.from, orDash(l.to), orDash(l.begin) + " → " + orDash(l.now), fmt.Sprintf("%.1f s", l.down.Seconds())})
		}
	}
	for _, line := range columns(rows) {
		d.to.line(plain, "  %s", line)
	}
	d.to.line(plain, "  %d of %d VMs were never touched.", len(d.room.guests)-len(lost), len(d.room.guests))
}

// columns aligns a table.
func columns(rows [][]string) []string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	var lines []string
	for _, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			b.WriteString(cell)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-len([]rune(cell))+2))
			}
		}
		lines = append(lines, b.String())
	}
	return lines
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
