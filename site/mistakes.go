package site

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Mistake is one thing that is wrong with a site file.
type Mistake struct {
	File   string // as it was named; "command line" when no file was read
	Line   int    // from 1; 0 when the mistake has no line, such as a file that cannot be read
	Column int    // from 1, in characters
	Path   string // field, such as listeners.web.limits.headers; empty for the file as a whole
	Text   string // what is wrong, the value seen, and what is allowed

	order int // of the file, in reading order
}

// String is the line that a person reads: file:line:column: field: text.
func (m Mistake) String() string {
	var b strings.Builder
	b.WriteString(m.File)
	if m.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", m.Line, m.Column)
	}
	b.WriteString(": ")
	if m.Path != "" {
		b.WriteString(m.Path + ": ")
	}
	b.WriteString(m.Text)
	return b.String()
}

// Mistakes is everything that is wrong with a site file, sorted by position.
type Mistakes struct {
	List []Mistake
	More int // mistakes beyond maxMistakes, counted and not kept
}

// maxMistakes bounds what is kept: nobody reads more in one go, and a 4 MiB file of nonsense holds a million.
const maxMistakes = 200

// Error is one mistake per line.
func (m *Mistakes) Error() string {
	lines := make([]string, 0, len(m.List)+1)
	for _, one := range m.List {
		lines = append(lines, one.String())
	}
	if m.More > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", m.More))
	}
	return strings.Join(lines, "\n")
}

func (m *Mistakes) add(one Mistake) {
	one.Text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) { // of a value that stands there without quotes, such as a file's name: a mistake is one line
			return utf8.RuneError
		}
		return r
	}, one.Text)
	if len(m.List) >= maxMistakes {
		m.More++
		return
	}
	m.List = append(m.List, one)
}

func (m *Mistakes) sort() {
	slices.SortStableFunc(m.List, func(a, b Mistake) int {
		return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// quote shows a value that was seen, cut where it would fill the screen.
func quote(s string) string {
	const longest = 60 // characters: longer values push the reason off the line
	if utf8.RuneCountInString(s) > longest {
		s = string([]rune(s)[:longest-1]) + "…"
	}
	return fmt.Sprintf("%q", s)
}

// either joins words for a sentence: a, b or c.
func either(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
