package cloudstack

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// database is a MariaDB of the test's own: in a folder, on a socket, ended by its pid.
type database struct {
	*testing.T
	socket string
}

func startDatabase(t *testing.T) *database {
	t.Helper()
	if os.Getenv("LIFEBOAT_LAB") != "1" {
		t.Skip("needs a MariaDB: run it with LIFEBOAT_LAB=1 where mariadb-server-core and mariadb-client-core are installed (deploy/lab/install.sh)")
	}
	for _, program := range []string{"mariadbd", "mariadb-install-db", "mariadb"} {
		if _, err := lookPath(program); err != nil {
			t.Fatalf("%s is not installed, but LIFEBOAT_LAB=1 promises it: apt install mariadb-server-core mariadb-client-core", program)
		}
	}
	dir, err := os.MkdirTemp("", "lb-maria") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	data := filepath.Join(dir, "data")
	flags := []string{"--no-defaults", "--datadir=" + data, "--user=root"}
	program, _ := lookPath("mariadb-install-db")
	if out, err := exec.Command(program, append(flags, "--auth-root-authentication-method=normal", "--skip-test-db")...).CombinedOutput(); err != nil {
		t.Fatalf("mariadb-install-db: %v\n%s", err, out)
	}
	d := &database{T: t, socket: filepath.Join(dir, "s")}
	ctx, stop := context.WithCancel(context.Background())
	program, _ = lookPath("mariadbd")
	server := exec.CommandContext(ctx, program, append(flags, "--socket="+d.socket, "--skip-networking", "--pid-file="+filepath.Join(dir, "pid"), "--innodb-buffer-pool-size=16M")...)
	var log bytes.Buffer
	server.Stdout, server.Stderr = &log, &log
	server.Cancel = func() error { return server.Process.Signal(os.Interrupt) }
	server.WaitDelay = 20 * time.Second
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Process.Signal(os.Kill); stop(); _ = server.Wait() })
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if _, err := d.try("SELECT 1"); err == nil {
			return d
		}
		if time.Now().After(end) {
			t.Fatalf("mariadbd does not answer:\n%s", log.String())
		}
	}
}

// lookPath also finds what lies in sbin.
func lookPath(program string) (string, error) {
	if path, err := exec.LookPath(program); err == nil {
		return path, nil
	}
	return exec.LookPath("/usr/sbin/" + program)
}

// try runs SQL as an operator would, and returns what is printed.
func (d *database) try(sql string) (string, error) {
	program, _ := lookPath("mariadb")
	c := exec.Command(program, "--no-defaults", "--socket="+d.socket, "--user=root", "--batch")
	c.Stdin = strings.NewReader(sql)
	var out, fault bytes.Buffer
	c.Stdout, c.Stderr = &out, &fault
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("%w: %s", err, fault.String())
	}
	return out.String(), nil
}

func (d *database) run(sql string) string {
	d.Helper()
	out, err := d.try(sql)
	if err != nil {
		d.Fatalf("%v\n%s", err, sql)
	}
	return out
}

func (d *database) export(table string) *Table {
	d.Helper()
	t, err := ReadTable(table, strings.NewReader(d.run("SELECT * FROM cloud_usage."+table)))
	if err != nil {
		d.Fatal(err)
	}
	return t
}

// everything is all that the repair may touch.
func (d *database) everything() string {
	out := ""
	for _, table := range []string{"usage_load_balancer_policy", "usage_port_forwarding", "usage_vmsnapshot", "usage_networks", "cloud_usage"} {
		out += table + "\n" + d.run("SELECT * FROM cloud_usage."+table+" ORDER BY 1,2,3,4,5,6")
	}
	return out
}

// layout is CloudStack's, before and since 4.18.
func layout(since418 bool) string {
	key := func(own string) string {
		if since418 {
			return "`id` bigint(20) NOT NULL AUTO_INCREMENT, `" + own + "` bigint(20) unsigned NOT NULL, PRIMARY KEY (`id`),"
		}
		return "`id` bigint(20) unsigned NOT NULL,"
	}
	rule := func(table, own string) string {
		return "CREATE TABLE `" + table + "` (" + key(own) + " `zone_id` bigint(20) unsigned NOT NULL, `account_id` bigint(20) unsigned NOT NULL, `domain_id` bigint(20) unsigned NOT NULL," +
			" `created` datetime NOT NULL, `deleted` datetime DEFAULT NULL, KEY `a` (`account_id`), KEY `c` (`created`), KEY `d` (`deleted`)) ENGINE=InnoDB DEFAULT CHARSET=utf8;\n"
	}
	return "CREATE DATABASE cloud_usage; USE cloud_usage;\n" + rule("usage_load_balancer_policy", "lb_id") + rule("usage_port_forwarding", "pf_id") +
		"CREATE TABLE `usage_vmsnapshot` (" + key("volume_id") + ` zone_id bigint unsigned NOT NULL, account_id bigint unsigned NOT NULL, domain_id bigint unsigned NOT NULL, vm_id bigint unsigned NOT NULL,
		disk_offering_id bigint unsigned, size bigint unsigned, created datetime NOT NULL, processed datetime, KEY i_usage_vmsnapshot (account_id, vm_id, created)) ENGINE=InnoDB;
	CREATE TABLE usage_networks (id bigint(20) unsigned NOT NULL AUTO_INCREMENT, network_offering_id bigint(20) unsigned NOT NULL, zone_id bigint(20) unsigned NOT NULL, network_id bigint(20) unsigned NOT NULL,
		account_id bigint(20) unsigned NOT NULL, domain_id bigint(20) unsigned NOT NULL, state varchar(100) DEFAULT NULL, removed datetime DEFAULT NULL, created datetime NOT NULL, PRIMARY KEY (id)) ENGINE=InnoDB CHARSET=utf8;
	CREATE TABLE usage_event (id bigint unsigned NOT NULL auto_increment, type varchar(32) NOT NULL, account_id bigint unsigned NOT NULL, created datetime NOT NULL, zone_id bigint unsigned NOT NULL,
		resource_id bigint unsigned, resource_name varchar(255), offering_id bigint unsigned, template_id bigint unsigned, size bigint unsigned, resource_type varchar(32), processed tinyint NOT NULL default 0, PRIMARY KEY (id)) ENGINE=InnoDB;
	CREATE TABLE cloud_usage (id bigint unsigned NOT NULL auto_increment, zone_id bigint unsigned NOT NULL, account_id bigint unsigned NOT NULL, domain_id bigint unsigned NOT NULL, description varchar(1024) NOT NULL,
		usage_display varchar(255) NOT NULL, usage_type int(1) unsigned, raw_usage double UNSIGNED NOT NULL, vm_instance_id bigint unsigned, vm_name varchar(255), offering_id bigint unsigned, template_id bigint unsigned,
		usage_id bigint unsigned, type varchar(32), size bigint unsigned, network_id bigint unsigned, start_date datetime NOT NULL, end_date datetime NOT NULL, PRIMARY KEY (id)) ENGINE=InnoDB;
	`
}

// usage inserts what CloudStack bills for days of January 2026; hours is a FLOAT, as its
// parsers reckon.
func billDay(typ, resource, account, day int, hours float32, description string) string {
	return fmt.Sprintf(`INSERT INTO cloud_usage (zone_id, account_id, domain_id, description, usage_display, usage_type, raw_usage, usage_id, start_date, end_date)
		VALUES (1, %d, 1, '%s', '%g Hrs', %d, %g, %d, '2026-01-%02d 00:00:00', '2026-01-%02d 23:59:59');`+"\n", account, description, hours, typ, float64(hours), resource, day, day)
}

func story(since418 bool) string {
	own := func(column string) string {
		if since418 {
			return column
		}
		return "id"
	}
	lb := "INSERT INTO usage_load_balancer_policy (" + own("lb_id") + ", zone_id, account_id, domain_id, created, deleted) VALUES "
	sql := lb + "(700, 1, 2, 1, '2026-01-01 12:00:00', NULL), (701, 1, 2, 1, '2026-01-01 00:00:00', NULL), (702, 1, 3, 1, '2026-01-01 00:00:00', '2026-01-02 00:00:00'), (703, 1, 3, 1, '2026-01-02 00:00:00', NULL);\n"
	sql += "INSERT INTO usage_port_forwarding (" + own("pf_id") + ", zone_id, account_id, domain_id, created, deleted) VALUES (900, 1, 3, 1, '2026-01-01 00:00:00', NULL);\n"
	sql += "INSERT INTO usage_vmsnapshot (" + own("volume_id") + ", zone_id, account_id, domain_id, vm_id, size, created, processed) VALUES (55, 1, 4, 1, 5, 1000, '2026-01-01 00:00:00', '2026-01-02 00:15:00'), (55, 1, 4, 1, 5, 0, '2026-01-02 00:00:00', NULL);\n"
	sql += "INSERT INTO usage_networks (network_offering_id, zone_id, network_id, account_id, domain_id, state, created) VALUES (1, 1, 200, 5, 1, 'Implemented', '2026-01-01 00:00:00'), (1, 1, 200, 5, 1, 'Implemented', '2026-01-02 00:00:00'), (2, 1, 200, 5, 1, 'Implemented', '2026-01-02 00:00:00');\n"
	sql += `INSERT INTO usage_event (type, account_id, created, zone_id, resource_id, template_id, size) VALUES ('LB.CREATE', 2, '2026-01-01 12:00:00', 1, 700, NULL, NULL), ('LB.DELETE', 2, '2026-01-02 06:00:00', 1, 700, NULL, NULL),
		('LB.DELETE', 3, '2026-01-02 00:00:00', 1, 702, NULL, NULL), ('NET.RULEDELETE', 3, '2026-01-01 01:00:00', 1, 900, NULL, NULL), ('LB.DELETE', 9, '2026-01-01 00:00:00', 1, 701000, NULL, NULL);` + "\n"
	for day := 1; day <= 4; day++ {
		first := float32(24)
		if day == 1 {
			first = 12
		}
		sql += billDay(11, 700, 2, day, first, "Load Balancing Policy: 700 usage time") + billDay(11, 701, 2, day, 24, "lb") + billDay(12, 900, 3, day, 24, "pf") +
			billDay(30, 200, 5, day, 24, "Network usage for network ID: 200")
		if day > 1 {
			sql += billDay(30, 200, 5, day, 24, "Network usage for network ID: 200") + billDay(25, 8, 4, day, 24, "VMSnapshot Id: 8 Usage: VM Id: 5 Volume Id: 55  Size: 0 bytes")
		}
	}
	return sql
}

func (d *database) plan() *Plan {
	d.Helper()
	p, err := Make(Input{Events: d.export("usage_event"), Usage: d.export("cloud_usage"), Helpers: []Helper{
		{Kind: LoadBalancer(), Table: d.export("usage_load_balancer_policy"), Live: map[string]bool{"701": true}},
		{Kind: PortForwarding(), Table: d.export("usage_port_forwarding")},
		{Kind: VMSnapshot(), Table: d.export("usage_vmsnapshot")},
		{Kind: Network(), Table: d.export("usage_networks")}}})
	if err != nil {
		d.Fatal(err)
	}
	return p
}

// A real database in CloudStack's layout: the SQL mends it, taking it back restores every
// byte, and SQL for a database that has changed since changes nothing.
func TestRepairOfARealDatabase(t *testing.T) {
	d := startDatabase(t)
	for _, since418 := range []bool{false, true} {
		d.run("DROP DATABASE IF EXISTS cloud_usage;" + layout(since418) + story(since418))
		before := d.everything()
		p := d.plan()
		got := map[string]string{}
		for _, a := range p.Accounts {
			got[a.ID+" "+a.Kind] = fmt.Sprintf("%.2f in %d", a.Hours, a.Rows)
		}
		for want, hours := range map[string]string{"2 LOAD_BALANCER_POLICY": "66.00 in 3", "3 PORT_FORWARDING_RULE": "95.00 in 4", "4 VM_SNAPSHOT": "72.00 in 3", "5 NETWORK": "72.00 in 3"} {
			if got[want] != hours {
				t.Errorf("since 4.18 %v: %s: %q, want %q", since418, want, got[want], hours)
			}
		}
		if len(got) != 4 {
			t.Errorf("accounts: %v", got)
		}
		var named []string
		for _, f := range p.Findings {
			if f.Ended.IsZero() {
				named = append(named, f.Kind+" "+f.Resource)
			}
		}
		if fmt.Sprint(named) != "[LOAD_BALANCER_POLICY 703 NETWORK 200]" {
			t.Errorf("named and not mended: %v", named)
		}
		do, undo := sqlOf(t, p, false), sqlOf(t, p, true)
		if out := d.run(do); !strings.Contains(out, "as reviewed") {
			t.Errorf("the repair says %q", out)
		}
		if sum := d.run("SELECT SUM(raw_usage) FROM cloud_usage.cloud_usage WHERE usage_type = 11 AND usage_id = 700"); !strings.Contains(sum, "18.0000") {
			t.Errorf("rule 700 lived 18 hours, and is billed %s", sum)
		}
		if again := d.plan(); again.Changes() != 0 {
			t.Errorf("after the repair there is something to mend: %+v", again.Findings)
		}
		if _, err := d.try(do); err == nil || d.plan().Changes() != 0 {
			t.Error("the repair ran a second time")
		}
		if out := d.run(undo); !strings.Contains(out, "as reviewed") {
			t.Errorf("taking it back says %q", out)
		}
		if after := d.everything(); after != before {
			t.Errorf("taking it back left\n%s\nit was\n%s", after, before)
		}
		d.run("UPDATE cloud_usage.cloud_usage SET raw_usage = 5 WHERE usage_id = 900 LIMIT 1")
		changed := d.everything()
		if _, err := d.try(do); err == nil || d.everything() != changed {
			t.Error("SQL was carried out in part on a database that is not as it was exported")
		}
	}
}

func sqlOf(t *testing.T, p *Plan, undo bool) string {
	t.Helper()
	var b bytes.Buffer
	if err := p.WriteSQL(&b, "cloud_usage", undo); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
