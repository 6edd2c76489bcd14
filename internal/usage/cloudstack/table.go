package cloudstack

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// maxLine is how long a line of an export may be, in bytes.
const maxLine = 1 << 20

// Table is an export of a database table: its first line names the columns.
type Table struct {
	Name    string // for people
	columns map[string]int
	rows    []row
}

type row struct {
	line  int
	cells []string
}

// ReadTable reads an export, as CSV or as `mariadb --batch` writes it (columns by tabs,
// with \t, \n and \\ escaped). An error names the line.
func ReadTable(name string, r io.Reader) (*Table, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	t := &Table{Name: name}
	first, err := br.Peek(4096)
	if err != nil && err != io.EOF && !errors.Is(err, bufio.ErrBufferFull) {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	head, _, _ := strings.Cut(string(first), "\n")
	if strings.Contains(head, "\t") {
		err = t.batch(br)
	} else {
		err = t.csv(br)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if t.columns == nil {
		return nil, fmt.Errorf("read %s: it is empty; its first line must name the columns", name)
	}
	return t, nil
}

func (t *Table) csv(r io.Reader) error {
	c := csv.NewReader(r)
	c.ReuseRecord = false
	for {
		cells, err := c.Read()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		line, _ := c.FieldPos(0)
		if err := t.add(line, cells); err != nil {
			return err
		}
	}
}

func (t *Table) batch(r io.Reader) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	unescape := strings.NewReplacer(`\\`, `\`, `\t`, "\t", `\n`, "\n", `\0`, "\x00")
	n := 0
	for lines.Scan() {
		n++
		cells := strings.Split(strings.TrimSuffix(lines.Text(), "\r"), "\t")
		for i, c := range cells {
			if c != `\N` {
				cells[i] = unescape.Replace(c)
			}
		}
		if err := t.add(n, cells); err != nil {
			return err
		}
	}
	return lines.Err()
}

func (t *Table) add(line int, cells []string) error {
	if t.columns == nil {
		t.columns = map[string]int{}
		for i, c := range cells {
			c = strings.ToLower(strings.TrimSpace(strings.TrimPrefix(c, "\xef\xbb\xbf")))
			if _, twice := t.columns[c]; twice || c == "" {
				return fmt.Errorf("line %d: the column %q is there twice, or has no name", line, c)
			}
			t.columns[c] = i
		}
		return nil
	}
	if len(cells) != len(t.columns) {
		return fmt.Errorf("line %d has %d columns, and the first line names %d", line, len(cells), len(t.columns))
	}
	t.rows = append(t.rows, row{line, cells})
	return nil
}

// has reports whether the table has a column.
func (t *Table) has(column string) bool { _, ok := t.columns[column]; return ok }

// need says which of some columns is missing.
func (t *Table) need(columns ...string) error {
	for _, c := range columns {
		if !t.has(c) {
			return fmt.Errorf("%s has no column %q; export the whole table, with the names of its columns", t.Name, c)
		}
	}
	return nil
}

// text is a cell; ok is false for NULL.
func (t *Table) text(r row, column string) (s string, ok bool) {
	i, there := t.columns[column]
	if !there {
		return "", false
	}
	s = r.cells[i]
	return s, s != "" && s != "NULL" && s != `\N`
}

// bad is an error about a cell.
func (t *Table) bad(r row, column string, why error) error {
	s, _ := t.text(r, column)
	return fmt.Errorf("%s, line %d: %s %q: %w", t.Name, r.line, column, s, why)
}

// id is a cell that holds an id: digits, kept as they are.
func (t *Table) id(r row, column string) (string, error) {
	s, ok := t.text(r, column)
	if !ok || len(s) > 20 || strings.Trim(s, "0123456789") != "" {
		return "", t.bad(r, column, errors.New("is no id"))
	}
	return s, nil
}

// forms of a DATETIME; CloudStack keeps them in UTC.
func forms() []string {
	return []string{"2006-01-02 15:04:05.999999", "2006-01-02T15:04:05.999999Z07:00", "2006-01-02"}
}

// time is a cell that holds a time; zero for NULL.
func (t *Table) time(r row, column string) (at time.Time, err error) {
	s, ok := t.text(r, column)
	if !ok {
		return time.Time{}, nil
	}
	for _, f := range forms() {
		if at, err = time.Parse(f, s); err == nil && at.Year() >= 1970 && at.Year() < 9999 {
			return at.UTC(), nil
		}
	}
	return time.Time{}, t.bad(r, column, errors.New("is no time like 2026-01-02 03:04:05"))
}
