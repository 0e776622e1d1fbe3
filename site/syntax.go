package site

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// syntaxTexts say what the YAML library's words mean for the person who wrote the file.
var syntaxTexts = []struct{ contains, text string }{
	{"mapping values are not allowed", "a second \": \" stands in one value; put the value in quotes, or indent this line as its neighbours are"},
	{"violates indentation", "a tab stands where spaces must; YAML indents with spaces"},
	{"indentation space is expected", "a tab stands where spaces must; YAML indents with spaces"},
	{"cannot start any token", "a value starts with a character that YAML keeps for itself (one of @ ` %); put it in quotes"},
	{"did not find expected ',' or ']'", "the list opened with [ before this is not closed with ], or a comma is missing"},
	{"did not find expected ',' or '}'", "the mapping opened with { before this is not closed with }, or a comma is missing"},
	{"did not find expected key", "the indentation fits none of the lines above, or a quote or bracket ended too early"},
	{"did not find expected '-' indicator", "this line should start with - as the list above it does, or be indented differently"},
	{"block sequence entries are not allowed", "a list item starts where none can; put - on a line of its own"},
	{"could not find expected ':'", "a key without its colon; write key: value"},
	{"did not find expected node content", "a value is missing, or a bracket closes that was never opened"},
	{"unexpected end of stream", "a quote opened here is not closed"},
	{"unknown escape character", "a backslash escape that YAML does not know; use single quotes to take backslashes as they are"},
	{"control characters", "a control character stands here; the file must be plain text"},
	{"UTF-8", "bytes that are not UTF-8 stand here; save the file as UTF-8"},
	{"exceeded max depth", "nested far too deep"},
}

// maxSearch bounds the files in which an open quote is looked for: each step of the search parses the file once more.
const maxSearch = 256 << 10 // bytes

// explainSyntax finds the place of a syntax error, which the library knows only roughly and by line alone, and words for it.
func explainSyntax(data []byte, err error) (line, column int, text string) {
	said := regexp.MustCompile(`^yaml: (line \d+: )?`).ReplaceAllString(err.Error(), "")
	text = "this is not YAML: " + said
	for _, t := range syntaxTexts {
		if strings.Contains(said, t.contains) {
			text = t.text
			break
		}
	}
	offset := stumble(data)
	switch {
	case strings.Contains(said, "unexpected end of stream") && len(data) > maxSearch:
		text = "a quote that was opened above is not closed"
	case strings.Contains(said, "unexpected end of stream"):
		offset = openedAt(data, said)
	case strings.HasPrefix(said, "unknown anchor"):
		name := strings.Trim(strings.TrimSuffix(strings.TrimPrefix(said, "unknown anchor "), " referenced"), "'")
		text = fmt.Sprintf("the alias *%s has no anchor &%s before it", name, name)
		if i := bytes.Index(data, []byte("*"+name)); i >= 0 {
			line, column = lineColumn(data, i)
			return line, column, text
		}
	}
	start := bytes.LastIndexByte(data[:min(offset+1, len(data))], '\n') + 1
	whole, _, _ := bytes.Cut(data[start:], []byte("\n"))
	blank := len(whole) - len(bytes.TrimLeft(whole, " \t\ufeff"))
	switch {
	case strings.Contains(said, "mapping values"):
		if i := bytes.LastIndex(whole, []byte(": ")); i > blank {
			blank = i
		}
	case strings.Contains(said, "cannot start any token"):
		if i := tabbed(data[start:]); i >= 0 {
			blank, text = i, "a tab stands where spaces must; YAML indents with spaces"
		} else if i := regexp.MustCompile("[:-] +[@`%]").FindIndex(whole); i != nil {
			blank = i[1] - 1
		}
	}
	line, column = lineColumn(data, start+blank)
	return line, column, text
}

// tabbed finds a tab in the indentation of the first two lines, or says -1.
func tabbed(data []byte) int {
	offset := 0
	for line := range bytes.SplitAfterSeq(data, []byte("\n")) {
		indent := line[:len(line)-len(bytes.TrimLeft(line, " \t"))]
		if i := bytes.IndexByte(indent, '\t'); i >= 0 {
			return offset + i
		}
		if offset > 0 {
			break
		}
		offset += len(line)
	}
	return -1
}

// lineColumn counts lines and characters from 1.
func lineColumn(data []byte, offset int) (line, column int) {
	before := data[:offset]
	start := bytes.LastIndexByte(before, '\n') + 1
	return bytes.Count(before, []byte("\n")) + 1, len([]rune(string(before[start:]))) + 1
}

// trickle hands out one byte at a time, so that what the parser has taken shows where it stumbled.
type trickle struct {
	data []byte
	n    int
}

func (t *trickle) Read(p []byte) (int, error) {
	if t.n == len(t.data) {
		return 0, io.EOF
	}
	p[0] = t.data[t.n]
	t.n++
	return 1, nil
}

// stumble is the offset of the text at which the parser gives up, within the few bytes that it reads ahead.
func stumble(data []byte) int {
	t := &trickle{data: data}
	dec := yaml.NewDecoder(t)
	var err error
	for err == nil {
		var doc yaml.Node
		err = dec.Decode(&doc)
	}
	const ahead = 3 // bytes beyond the character that the scanner looks at
	taken := data[:t.n]
	if t.n < len(data) {
		taken = data[:max(0, t.n-ahead)]
	}
	return max(0, len(bytes.TrimRight(taken, " \t\r\n"))-1)
}

// openedAt finds the line from which on the text fails with said, whatever is cut off behind it: where a quote was opened.
func openedAt(data []byte, said string) int {
	low, high := 0, len(data)
	for low < high {
		mid := (low + high) / 2
		end := mid + bytes.IndexByte(data[mid:], '\n') + 1
		if end == mid {
			end = len(data)
		}
		var doc yaml.Node
		if err := yaml.Unmarshal(data[:end], &doc); err != nil && !errors.Is(err, io.EOF) && strings.HasSuffix(err.Error(), said) {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return min(low, max(0, len(data)-1))
}
