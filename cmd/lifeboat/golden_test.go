package main

import "testing"

// TestTranscripts runs every command against a cluster that works and compares
// what it sent and printed, word for word.
func TestTranscripts(t *testing.T) {
	const web1 = "22222222-2222-4222-8222-222222222222"
	for name, lines := range map[string][]string{
		"status": {"status", "status -o wide", "status -o json", "status -o yaml"},
		"host": {
			"host list", "host list -o wide", "host show h1", "host show h2 -o wide", "host show h3", "host show h9", "host show h3 -o json",
			"host disable h1", "host enable h1", "host maintenance on h1", "host maintenance off h1", "host remove h2 --force", "host disable h9",
		},
		"fence": {"fence test h1", "host fence test h1 -o json", "fence test h2", "fence test h9", "host fence clear h1"},
		"vm": {
			"vm list", "vm list -o wide", "vm list --host h2 --protected", "vm list --host h7", "vm show db-1", "vm show " + web1, "vm show nope",
			"vm protect scratch --ha always --priority high --max-restart 0", "vm protect db-1", "vm unprotect db-1",
			"vm start web-1", "vm stop web-1", "vm clear web-1", "vm start db-1", "vm start nope",
		},
		"rule": {"rule list", "rule list -o wide", "rule list -o json", "rule add apart web-1 web-2", "rule add together web-1 web-2", "rule add hosts db-1 --on h1:2 --on rack=a --soft",
			"rule add hosts db-1", "rule add apart a b --on h1", "rule add hosts a --on h1:x", "rule add near a b", "rule add apart", "rule remove 4", "rule remove web",
			"vm set web-1 priority high", "vm set web-1 depends_on db-1,db-2", "vm set web-1 gate 30s -o json", "vm set web-1 guest_health both", "vm set web-1 colour red"},
		"work":   {"work list", "work list --all", "work list -o wide", "work list --vm db-1", "work show 140000", "work show 5", "work cancel #140000", "work retry 140000 -o json", "work cancel 5"},
		"alert":  {"alert list", "alert list --all -o wide", "alert list --type nope", "alert show 90001", "alert show 1", "alert ack 137001", "alert resolve 137001", "alert list", "alert ack 1", "alert ack", "alert ack 1 --subject h2", "alert archive --subject h2", "alert raise HOST h2 hot Hot! --severity critical", "alert types", "alert types -o json"},
		"event":  {"event list", "event list -o wide -n 2", "event list --after 138000", "event list --subject nobody", "event list -n 1 -o yaml"},
		"notify": {"notify list", "notify set ops webhook https://hooks.example.org/x --secret s3cret --severity critical --label rack=r1", "notify list -o wide", "notify test ops", "notify test other", "notify remove other", "notify silence list", "notify silence add works --for 1h", "notify silence add works --all", "notify silence add power --all --from 2026-12-01T04:00:00Z --for 2h", "notify silence add memory --subject h2 --from 2026-12-01T04:00:00Z --until 2026-12-01T06:30:00Z", "notify silence list", "notify silence end 7"},
		"node": {"node list", "node list -o wide", "node show n2", "node show n3", "node show n9", "node leave n2", "node leave n2 --force", "node remove n3", "node remove n1 --force", "node transfer-leadership", "node transfer-leadership n2",
			"node show n4", "node maintenance on n4", "node maintenance on n4 --force --for 2h --within 1m", "node maintenance on n4 --within 0s", "node maintenance off n4",
			"node shutdown prepare n4 --force", "node shutdown prepare n4 --within=-1s", "node shutdown cancel n4", "node shutdown trigger n4", "node shutdown trigger n4 --force"},
		"policy":  {"policy list", "policy get suspect-after", "policy get nope", "policy set beat=2s suspect-after=3", "policy set nope=1", "policy set beat", "policy set beat=1s beat=2s", "policy get beat -o json"},
		"ha":      {"ha disarm", "status", "ha arm -o json"},
		"explain": {"explain vm web-1", "explain vm web-1 -o json", "explain vm nope", "explain work nope", "explain pod web-1"},
		"plan": {"plan --fail h2", "plan --fail h2,rack=a -o wide --start-time 8s", "plan --fail h1", "plan --maintenance h2", "plan --n1", "plan --n1 -o json", "plan --fail h9",
			"plan", "plan --fail h1 --n1"},
		"incident": {"incident list", "incident list -o wide", "incident show 41", "incident show 60", "incident show 60 -o json", "incident show 7", "incident show x"},
		"version":  {"version", "version -o json"},
		"usage":    {"host", "hots", "host lits", "host list --foo", "status -o xml", "host show", "vm protect a --ha sometimes", "work show abc", "work show -- -1", "host list --timeout soon"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, busyState())
			golden(t, name, w.transcript(lines...))
		})
	}
}

func TestEmptyCluster(t *testing.T) {
	w := newWorld(t, emptyState())
	golden(t, "empty", w.transcript("status", "rule list", "host list", "vm list", "vm list --protected", "work list", "work list -a",
		"alert list", "event list", "incident list", "node list", "policy list", "host list -o json"))
}
