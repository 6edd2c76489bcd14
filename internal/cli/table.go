package cli

import (
	"bytes"
	"strconv"
	"strings"
	"unicode"
)

// gap is the space between two columns.
const gap = 2

// writeTable aligns the columns of lines, which may differ in length. The last
// cell of a line is not padded.
func writeTable(buf *bytes.Buffer, lines [][]string) {
	var widths []int
	for _, line := range lines {
		for i := range line {
			line[i] = clean(line[i])
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], width(line[i]))
		}
	}
	for _, line := range lines {
		for i, cell := range line {
			buf.WriteString(cell)
			if i < len(line)-1 {
				buf.WriteString(strings.Repeat(" ", widths[i]-width(cell)+gap))
			}
		}
		buf.WriteByte('\n')
	}
}

// clean makes foreign text harmless for a terminal and keeps it on one line:
// whatever is not printable becomes its Go escape. Format characters are among
// those, since they can turn the order of what is read around.
func clean(s string) string {
	if strings.IndexFunc(s, unprintable) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			b.WriteByte(' ')
		case unprintable(r):
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }

// width is the number of terminal cells that s takes. Ambiguous characters
// count as narrow, as terminals outside East Asia show them.
func width(s string) int {
	n := 0
	for _, r := range s {
		switch {
		case unicode.In(r, unicode.Mn, unicode.Me):
		case wide(r):
			n += 2
		default:
			n++
		}
	}
	return n
}

// wide follows the East Asian Width property (W and F), by block.
func wide(r rune) bool {
	return r >= 0x1100 && (r <= 0x115f || // Hangul Jamo
		r >= 0x2e80 && r <= 0x303e || r >= 0x3041 && r <= 0xa4cf || // CJK, kana, Yi
		r >= 0xac00 && r <= 0xd7a3 || // Hangul syllables
		r >= 0xf900 && r <= 0xfaff || r >= 0xfe30 && r <= 0xfe6f || // CJK compatibility
		r >= 0xff00 && r <= 0xff60 || r >= 0xffe0 && r <= 0xffe6 || // full width forms
		r >= 0x1f300 && r <= 0x1f64f || r >= 0x1f680 && r <= 0x1f6ff || r >= 0x1f900 && r <= 0x1f9ff || // emoji
		r >= 0x20000 && r <= 0x3fffd)
}
