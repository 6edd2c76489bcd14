package cloudstack

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// change is one row that is changed, and how that is taken back.
type change struct{ do, undo, remark string }

type billChange struct {
	change
	newRaw, newDisplay string
}

// Changes is how many rows the SQL changes.
func (p *Plan) Changes() int { return len(p.changes) }

// stamp writes a time as the database does.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.999999") }

// quote writes a string as SQL, whatever it holds and whatever the mode of the server.
func quote(s string) string {
	for _, c := range []byte(s) {
		if c < ' ' || c == '\\' || c == '\'' || c > '~' {
			return "CONVERT(X'" + fmt.Sprintf("%x", s) + "' USING utf8mb4)"
		}
	}
	return "'" + s + "'"
}

// closing sets the end of a row. Before 4.18 the table has no key: what is known of the
// row must do, and one such row is as good as another.
func (h Helper) closing(r helperRow, at time.Time) change {
	which := fmt.Sprintf("`id` = %s AND `account_id` = %s AND `created` = '%s'", r.own, r.account, stamp(r.created))
	if r.pk != "" {
		which = fmt.Sprintf("`id` = %s AND `%s` = %s AND `account_id` = %s", r.pk, h.Kind.own, r.own, r.account)
	}
	set := func(to, is string) string {
		return fmt.Sprintf("UPDATE `%s` SET `%s` = %s WHERE %s AND `%s` %s LIMIT 1", h.Kind.Table, h.Kind.ends, to, which, h.Kind.ends, is)
	}
	end := "'" + stamp(at) + "'"
	return change{do: set(end, "IS NULL"), undo: set("NULL", "= "+end), remark: fmt.Sprintf("%s %s of account %s", h.Kind.Name, r.resource, r.account)}
}

// billing lowers the hours of a row of cloud_usage.
func billing(b *bill, right float64) billChange {
	raw := strconv.FormatFloat(right, 'g', -1, 64)
	display := strings.TrimSuffix(strings.TrimRight(strconv.FormatFloat(right, 'f', 6, 64), "0"), ".") + " Hrs"
	set := func(raw, display, isRaw, isDisplay string) string {
		return fmt.Sprintf("UPDATE `cloud_usage` SET `raw_usage` = %s, `usage_display` = %s WHERE `id` = %s AND ABS(`raw_usage` - %s) < 1e-9 AND `usage_display` = %s LIMIT 1",
			raw, quote(display), b.id, isRaw, quote(isDisplay))
	}
	return billChange{change{do: set(raw, display, b.rawText, b.display), undo: set(b.rawText, b.display, raw, display),
		remark: fmt.Sprintf("%s to %s: %s hours instead of %s", stamp(b.start), stamp(b.end), raw, b.rawText)}, raw, display}
}

// WriteSQL writes what mends the tables, or with undo what takes it back, as one
// transaction that changes all rows or none: when a row is not as it was exported, the
// client ends with an error before the commit.
func (p *Plan) WriteSQL(w io.Writer, database string, undo bool) error {
	b := bufio.NewWriter(w)
	what, changes := "closes what was deleted, and corrects what was billed", slices.Clone(p.changes)
	if undo {
		what = "takes back what the repair has done"
		slices.Reverse(changes)
	}
	fmt.Fprintf(b, "-- %s: %d rows. Read it before you run it, with the usage server stopped:\n", what, len(changes))
	fmt.Fprintf(b, "--   mariadb < this file   (without --force)\n")
	fmt.Fprintf(b, "-- Quota that was reckoned from these rows is not touched.\n")
	for _, a := range p.Accounts {
		fmt.Fprintf(b, "-- account %s, %s: %s hours too much in %d rows\n", a.ID, a.Kind, strconv.FormatFloat(a.Hours, 'f', 6, 64), a.Rows)
	}
	fmt.Fprintf(b, "USE `%s`;\nSTART TRANSACTION;\nSET @changed = 0;\n", strings.ReplaceAll(database, "`", ""))
	for _, c := range changes {
		text := c.do
		if undo {
			text = c.undo
		}
		fmt.Fprintf(b, "-- %s\n%s; SET @changed = @changed + ROW_COUNT();\n", strings.Map(printable, c.remark), text)
	}
	fmt.Fprintf(b, "-- Of another number of rows the next line is an error, and nothing is committed.\n")
	fmt.Fprintf(b, "SELECT IF(@changed = %d, 'as reviewed', (SELECT 1 UNION SELECT 2)) AS `checked`;\nCOMMIT;\n", len(changes))
	return b.Flush()
}

func printable(r rune) rune {
	if r < ' ' {
		return ' '
	}
	return r
}
