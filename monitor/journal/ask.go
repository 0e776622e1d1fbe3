package journal

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"modernc.org/sqlite"

	"github.com/even-keel/evenkeel/monitor/kql"
)

// What questions may cost, beside what the site file says.
const (
	questionsAtOnce = 2        // further ones are turned away: they would share the processors with requests
	answerBytes     = 16 << 20 // of all texts of an answer
	textLimit       = 1 << 20  // bytes of one text or blob while a question runs
	depthLimit      = 200      // of expressions in SQL
	sourceLimit     = 64 << 10
)

// Limits of SQLite, by its numbers.
const (
	limitLength = 0
	limitSQL    = 1
	limitDepth  = 3
	limitAttach = 7
)

// Errors of questions.
var (
	ErrBusy    = errors.New("as many questions as may run at once are under way; ask again in a moment")
	ErrNotOpen = errors.New("the store of events is not open yet")
	ErrOff     = errors.New("this node keeps no events: events.off is set in its site file")
)

// QuestionError says what is wrong with a question.
type QuestionError struct{ Err error }

// Error is the mistake.
func (e *QuestionError) Error() string { return e.Err.Error() }

// Unwrap is the mistake.
func (e *QuestionError) Unwrap() error { return e.Err }

// Answer is what a question brought.
type Answer struct {
	Columns   []kql.Column // name and type
	Rows      [][]any      // nil, string, int64, float64, bool, time.Time, time.Duration or json.RawMessage
	Render    string       // chart that was asked for; empty: none
	Truncated bool         // there is more than is shown
	Took      time.Duration
	SQL       string // that was run
}

// readers is the database for questions, or why there is none.
func (s *Store) readers() (*sql.DB, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.current != nil:
		return s.current.read, nil
	case s.state == StateOff:
		return nil, ErrOff
	case s.trouble != "":
		return nil, errors.New(s.trouble)
	}
	return nil, ErrNotOpen
}

// Ask answers a question in KQL, or in SQL when it begins as that does.
func (s *Store) Ask(ctx context.Context, question string) (a Answer, err error) {
	select {
	case s.asking <- struct{}{}:
		defer func() { <-s.asking }()
	default:
		s.counts.turnedAway.Add(1)
		return a, ErrBusy
	}
	s.counts.asked.Add(1)
	defer func() {
		if err != nil {
			s.counts.failed.Add(1)
		}
	}()
	q, isKQL, err := translate(question, s.deps.Site, s.deps.Now())
	if err != nil {
		return a, &QuestionError{err}
	}
	limits := s.cfg.Load().Query
	ctx, cancel := context.WithTimeout(ctx, limits.Timeout)
	defer cancel()
	began := s.deps.Now()
	a, err = s.run(ctx, q, limits.Rows)
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return a, &QuestionError{fmt.Errorf("it took longer than %v (events.query.timeout); ask for less time, or for AppRequestsRollup", limits.Timeout)}
	case err != nil && codeOf(err) != 0 && !damaged(err):
		return a, &QuestionError{plain(err, isKQL)}
	}
	a.Took, a.SQL, a.Render = s.deps.Now().Sub(began), q.SQL, q.Render
	return a, err
}

// plain is an error of SQLite without its numbers.
func plain(err error, isKQL bool) error {
	text := regexp.MustCompile(` \(\d+\)$`).ReplaceAllString(strings.TrimPrefix(err.Error(), "SQL logic error: "), "")
	switch {
	case strings.Contains(text, "too big"):
		text = fmt.Sprintf("a text would get longer than %d bytes", textLimit)
	case strings.Contains(text, "not authorized") || strings.Contains(text, "prohibited"):
		text = "questions read tables and nothing else"
	case isKQL:
		text = "it cannot be run: " + text
	}
	return errors.New(text)
}

// translate makes SQL of a question.
func translate(question, siteName string, now time.Time) (q kql.Query, isKQL bool, err error) {
	if !isSQL(question) {
		q, err = kql.Compile(question, Tables(siteName), now)
		return q, true, err
	}
	if len(question) > sourceLimit {
		return q, false, fmt.Errorf("the question has more than %d bytes", sourceLimit)
	}
	if at := second(question); at > 0 {
		line := 1 + strings.Count(question[:at], "\n")
		return q, false, &kql.Error{Line: line, Column: at - strings.LastIndexByte(question[:at], '\n'), Text: "only one statement is run"}
	}
	return kql.Query{SQL: question}, false, nil
}

// isSQL says whether a question begins as SQL does. No table is called like that.
func isSQL(question string) bool {
	words := strings.FieldsFunc(question, func(r rune) bool { return r <= ' ' || r == '(' })
	if len(words) == 0 {
		return false
	}
	switch strings.ToLower(words[0]) {
	case "select", "with", "values", "explain":
		return true
	}
	return false
}

// second is where a second statement begins, 0: there is only one. Semicolons in texts, names and comments separate nothing.
func second(s string) int {
	ended := false
	for i := 0; i < len(s); {
		n := passage(s[i:])
		comment := n > 0 && (s[i] == '-' || s[i] == '/')
		if ended && !comment && s[i] > ' ' && s[i] != ';' {
			return i
		}
		ended = ended || s[i] == ';'
		i += max(n, 1)
	}
	return 0
}

// passage is how long a text, name or comment is that s begins with; 0: it begins with none.
func passage(s string) int {
	end, from := "", 1
	switch {
	case s[0] == '[':
		end = "]"
	case s[0] == '\'' || s[0] == '"' || s[0] == '`':
		end = s[:1]
	case strings.HasPrefix(s, "--"):
		end = "\n"
	case strings.HasPrefix(s, "/*"):
		end, from = "*/", 2
	default:
		return 0
	}
	if at := strings.Index(s[from:], end); at >= 0 {
		return from + at + len(end)
	}
	return len(s)
}

// run reads the rows of a question.
func (s *Store) run(ctx context.Context, q kql.Query, most int) (a Answer, err error) {
	db, err := s.readers()
	if err != nil {
		return a, err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return a, err
	}
	defer conn.Close()
	for id, n := range map[int]int{limitLength: textLimit, limitSQL: 8 * sourceLimit, limitDepth: depthLimit, limitAttach: 0} {
		if _, err := sqlite.Limit(conn, id, n); err != nil {
			return a, err
		}
	}
	rows, err := conn.QueryContext(ctx, q.SQL)
	if err != nil {
		return a, err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return a, err
	}
	if a.Columns = q.Columns; a.Columns == nil {
		for _, name := range names {
			a.Columns = append(a.Columns, kql.Column{Name: name})
		}
	}
	size := 0
	for rows.Next() {
		if len(a.Rows) == most || size > answerBytes {
			a.Truncated = true
			break
		}
		cells := make([]any, len(names))
		into := make([]any, len(names))
		for i := range cells {
			into[i] = &cells[i]
		}
		if err := rows.Scan(into...); err != nil {
			return a, err
		}
		for i := range cells {
			cells[i] = shown(cells[i], &a.Columns[i].Type)
			size += 16 + len(text(textOf(cells[i])))
		}
		a.Rows = append(a.Rows, cells)
	}
	return a, rows.Err()
}

// textOf is a cell that is a text, else nil.
func textOf(cell any) any {
	switch v := cell.(type) {
	case string:
		return v
	case json.RawMessage:
		return string(v)
	}
	return nil
}

// shown is a value of SQLite as its type says. A column of SQL has the type of its first value.
func shown(v any, t *kql.Type) any {
	if b, is := v.([]byte); is {
		v = string(b)
	}
	if *t == kql.Null && v != nil {
		switch v.(type) {
		case int64:
			*t = kql.Long
		case float64:
			*t = kql.Real
		default:
			*t = kql.String
		}
	}
	switch n := v.(type) {
	case int64:
		switch *t {
		case kql.DateTime:
			return time.Unix(0, n).UTC()
		case kql.TimeSpan:
			return time.Duration(n)
		case kql.Bool:
			return n != 0
		case kql.Real:
			return float64(n)
		}
	case float64:
		switch *t {
		case kql.DateTime:
			return time.Unix(0, int64(n)).UTC()
		case kql.TimeSpan:
			return time.Duration(n)
		}
	case string:
		if *t == kql.Dynamic && json.Valid([]byte(n)) {
			return json.RawMessage(n)
		}
	}
	return v
}
