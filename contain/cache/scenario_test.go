package cache

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/wire"
)

var update = flag.Bool("update", false, "write what happens into the scenarios")

// TestScenarios plays the cases of RFC 9111, RFC 5861 and RFC 9211 as texts. Lines that begin with = are what must come of the line before.
func TestScenarios(t *testing.T) {
	names, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(names) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			var s *stand
			for in := bufio.NewScanner(bytes.NewReader(text)); in.Scan(); {
				line := in.Text()
				if strings.HasPrefix(line, "=") {
					continue
				}
				got.WriteString(line + "\n")
				if strings.HasPrefix(line, "case") {
					s = newStand(t)
					continue
				}
				if line == "" || strings.HasPrefix(line, "#") {
					continue
				}
				for _, one := range s.do(line) {
					got.WriteString("= " + one + "\n")
				}
			}
			if *update {
				if err := os.WriteFile(name, []byte(got.String()), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, have := strings.Split(string(text), "\n"), strings.Split(got.String(), "\n")
			topic := ""
			for i := range want {
				if strings.HasPrefix(want[i], "case") {
					topic = want[i]
				}
				if i >= len(have) || want[i] != have[i] {
					t.Fatalf("line %d, %s:\nwant %s\ngot  %s", i+1, topic, want[i], strings.Join(have[min(i, len(have)):min(i+1, len(have))], ""))
				}
			}
		})
	}
}

// stand is a cache between requests and an endpoint, both of which a scenario plays. Its clock only goes when told to.
type stand struct {
	t      testing.TB
	now    time.Time
	c      *Cache
	stage  *Stage
	next   *exchange.Next
	policy site.RouteCache
	plan   plan
	out    []string // what became of the request under way
	asked  []string // what the endpoint was asked
}

// plan is what the endpoint answers.
type plan struct {
	status  int
	fields  []string
	body    string
	refusal *exchange.Refusal
	cut     bool // the body ends too early
	takes   time.Duration
}

func newStand(t testing.TB) *stand {
	s := &stand{t: t, now: time.Date(2026, 1, 31, 9, 0, 0, 0, time.UTC), policy: site.RouteCache{Negative: time.Second, Body: 1 << 20}}
	s.c = New(site.Cache{Memory: 1 << 24, Waiting: 100, Refreshes: 4}, Deps{
		Now: func() time.Time { return s.now }, Answer: s.answer, Cause: causeOf,
		Alone: func(*exchange.Exchange) func() { return func() {} },
	})
	s.next = exchange.Then(s.endpoint)
	s.build()
	return s
}

func (s *stand) build() {
	s.stage = s.c.Stage([]*Policy{{RouteCache: s.policy, Route: "all"}, nil})
}

func causeOf(r *exchange.Refusal) Cause {
	return map[string]Cause{"overloaded": CauseOverloaded, "down": CauseDown, "failed": CauseFailed, "deadline": CauseDeadline}[r.Reason]
}

// answer stands for proxy.Answer.
func (s *stand) answer(x *exchange.Exchange, status int, fields []wire.Field, body []byte) *exchange.Refusal {
	x.Outcome.Status, x.Outcome.Started = status, true
	if string(x.Request.Method) == "HEAD" {
		body = nil
	}
	s.say(status, fields, body)
	return nil
}

// say notes what the client gets, of the fields those that matter here.
func (s *stand) say(status int, fields []wire.Field, body []byte) {
	line := fmt.Sprintf("%d %q", status, body)
	for _, name := range []string{"Age", "Warning", "X-Version", "Content-Type", "Set-Cookie", "Cache-Status"} {
		for _, f := range fields {
			if wire.EqualFold(f.Name, name) {
				line += fmt.Sprintf(" | %s: %s", name, f.Value)
			}
		}
	}
	s.out = append(s.out, line)
}

// endpoint stands for all stages behind the cache.
func (s *stand) endpoint(x *exchange.Exchange) *exchange.Refusal {
	line := "asked " + string(x.Request.Method)
	for _, f := range x.Request.Fields {
		if isCondition(f.Name) || wire.EqualFold(f.Name, "range") {
			line += fmt.Sprintf(" | %s: %s", f.Name, f.Value)
		}
	}
	s.asked = append(s.asked, line)
	p := s.plan
	s.now = s.now.Add(p.takes)
	if p.refusal != nil {
		return p.refusal
	}
	fields := s.fields(p.fields)
	status, body := p.status, []byte(p.body)
	tag, _ := wire.FieldNamed(fields, "etag")
	if none, is := wire.FieldNamed(x.Request.Fields, "if-none-match"); is && status == 200 && matches(none, tag) {
		status, body = 304, nil
	}
	if since, is := wire.FieldNamed(x.Request.Fields, "if-modified-since"); is && tag == nil && status == 200 {
		if last, _ := wire.FieldNamed(fields, "last-modified"); string(last) == string(since) {
			status, body = 304, nil
		}
	}
	x.Result = exchange.Result{Kind: exchange.Answered, Status: status}
	taking, more := x.Tap.Head(x, status, fields, int64(len(body)))
	if taking != exchange.TakeAll {
		x.Outcome.Status, x.Outcome.Started = status, true
		s.say(status, append(fields, more...), body)
	}
	if taking == exchange.TakeNothing {
		return nil
	}
	half := len(body) / 2
	if half > 0 && !x.Tap.Body(x, body[:half]) || !p.cut && len(body) > 0 && !x.Tap.Body(x, body[half:]) {
		p.cut = true
	}
	how := exchange.Whole
	if p.cut {
		how = exchange.Cut
	}
	x.Tap.End(x, how)
	return nil
}

// fields reads fields. {now}, {+5s} and {-5s} are dates.
func (s *stand) fields(list []string) (out []wire.Field) {
	for _, one := range list {
		name, value, _ := strings.Cut(one, ": ")
		for strings.Contains(value, "{") {
			start, end := strings.Index(value, "{"), strings.Index(value, "}")
			word := value[start+1 : end]
			d, err := time.ParseDuration(word)
			if err != nil && word != "now" {
				s.t.Fatalf("%q is no date", word)
			}
			value = value[:start] + s.now.Add(d).Format("Mon, 02 Jan 2006 15:04:05 GMT") + value[end+1:]
		}
		out = append(out, wire.Field{Name: []byte(name), Value: []byte(value), ID: wire.FieldID([]byte(name))})
	}
	return out
}

// do plays one line, whose parts stand between bars.
func (s *stand) do(line string) []string {
	parts := strings.Split(line, " | ")
	word := strings.Fields(parts[0])
	switch word[0] {
	case "pass":
		d, err := time.ParseDuration(word[1])
		if err != nil {
			s.t.Fatal(err)
		}
		s.now = s.now.Add(d)
	case "route":
		for _, one := range word[1:] {
			name, value, _ := strings.Cut(one, "=")
			d, err := time.ParseDuration(value)
			to := map[string]*time.Duration{"ttl": &s.policy.TTL, "negative": &s.policy.Negative, "errors": &s.policy.Errors, "while": &s.policy.WhileRevalidate,
				"error": &s.policy.IfError, "overloaded": &s.policy.IfOverloaded}[name]
			if err != nil || to == nil {
				s.t.Fatalf("%s: %v", one, err)
			}
			*to = d
		}
		s.build()
	case "endpoint":
		s.plan = plan{fields: parts[1:]}
		if status, err := strconv.Atoi(word[1]); err == nil {
			s.plan.status = status
		} else if word[1] == "refused" {
			s.plan.refusal = &exchange.Refusal{Stage: "test", Reason: word[2], Status: 503}
			return nil
		}
		for _, one := range word[2:] {
			switch name, value, _ := strings.Cut(one, "="); name {
			case "body":
				s.plan.body = value
			case "cut":
				s.plan.cut = true
			case "takes":
				s.plan.takes, _ = time.ParseDuration(value)
			}
		}
	case "refresh":
		select {
		case j := <-s.c.jobs:
			s.out, s.asked = nil, nil
			j.run(s.t.Context())
			return append(s.out, s.asked...)
		default:
			return []string{"nothing to refresh"}
		}
	default:
		return s.ask(word, parts[1:])
	}
	return nil
}

// ask sends a request: METHOD /path [https] [elsewhere] [host=Shop.Example:80].
func (s *stand) ask(word, fields []string) []string {
	s.out, s.asked = nil, nil
	r := &wire.Request{Method: []byte(word[0]), Target: []byte(word[1]), Host: []byte("shop.example"), Fields: s.fields(fields), Minor: 1, ContentLength: -1}
	x := &exchange.Exchange{Request: r, Host: r.Host, Path: r.Target, Route: &exchange.Route{Name: "all"}, Client: netip.MustParseAddrPort("192.0.2.1:1")}
	for _, w := range word[2:] {
		switch w {
		case "https":
			x.Secure = true
		case "elsewhere":
			x.Route = &exchange.Route{Name: "else", Index: 1}
		case "customer":
			x.Customer = []byte("acme")
		case "degraded":
			x.Degrade = []byte("recommendations")
		}
		if spelling, is := strings.CutPrefix(w, "host="); is {
			r.Host = []byte(spelling)
		}
	}
	before := r.Fields
	if refusal := s.stage.Serve(x, s.next); refusal != nil {
		s.out = append(s.out, "refused: "+refusal.Reason)
	}
	if x.Tap != nil || len(before) > 0 && &r.Fields[0] != &before[0] {
		s.t.Error("the exchange was not put back as it was")
	}
	return append(s.out, s.asked...)
}

func contextWith(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithCancel(context.Background())
}
