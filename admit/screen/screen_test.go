package screen

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/wire"
)

const agent = "\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\nAccept: */*"

// asked is an exchange for a head as text, routed to the first route.
func asked(t testing.TB, head string) *exchange.Exchange {
	t.Helper()
	r := new(wire.Request)
	raw := strings.ReplaceAll(strings.TrimSpace(head), "\n", "\r\n") + "\r\n\r\n"
	if n, err := r.Parse([]byte(raw), wire.Limits{HeadBytes: 64 << 10, Fields: 100}); err != nil || n != len(raw) {
		t.Fatalf("parse %q: %d, %v", head, n, err)
	}
	path, _, _ := bytes.Cut(r.Target, []byte("?"))
	return &exchange.Exchange{Request: r, Route: &exchange.Route{Name: "all"}, Path: path, Host: r.Host, IP: netip.MustParseAddr("192.0.2.7"),
		Client: netip.MustParseAddrPort("192.0.2.7:4711"), Local: netip.MustParseAddrPort("192.0.2.1:80"), RequestID: []byte("0123456789"), Replayable: true}
}

// world is a screen of one site, and what became of requests.
type world struct {
	*Screen
	stage exchange.Stage
	log   bytes.Buffer
	body  []byte
	over  bool
	now   time.Time
	rand  float64
	told  []string
}

func newWorld(t testing.TB, cfg *site.Site) *world {
	t.Helper()
	w := &world{now: time.Unix(1e9, 0)}
	w.Screen = New(Deps{
		Peek: func(x *exchange.Exchange, n int) ([]byte, bool, error) {
			return w.body[:min(n, len(w.body))], len(w.body) <= n, nil
		},
		Overloaded: func(*exchange.Exchange) bool { return w.over },
		Event:      func(text string) { w.told = append(w.told, text) },
		Log:        slog.New(slog.NewTextHandler(&w.log, nil)),
		Now:        func() time.Time { return w.now },
		Rand:       func() float64 { return w.rand },
	})
	if err := w.Prepare(cfg); err != nil {
		t.Fatal(err)
	}
	w.stage = w.Stage(cfg)
	return w
}

// ask says what the stage does with x: a refusal, or nil when it went on.
func (w *world) ask(x *exchange.Exchange) *exchange.Refusal {
	return w.stage.Serve(x, exchange.Then(func(*exchange.Exchange) *exchange.Refusal { return nil }))
}

func screened(change ...func(*site.Screen)) *site.Site {
	c := &site.Screen{Mode: "block", Paranoia: 1, Anomaly: 5, BodyBytes: 16 << 10, Sample: 1, CheapChecks: true}
	for _, f := range change {
		f(c)
	}
	return &site.Site{Routes: []*site.Route{{Name: "all", Pool: "p", Screen: c}}, Screening: site.Screening{Concurrency: 1, Wait: 20 * time.Millisecond, Log: true}}
}

// attack is one that only the rule set finds, sly one that the cheap checks find.
const (
	attack = "GET /a?file=/etc/passwd HTTP/1.1\nHost: a.example" + agent
	sly    = "GET /a?x=1%27+or+1%3D1+--+- HTTP/1.1\nHost: a.example" + agent
	proper = "GET /a?x=hello+world&page=2&sort=name.desc HTTP/1.1\nHost: a.example" + agent
)

func TestModes(t *testing.T) {
	for _, c := range []struct {
		mode, head string
		want       *exchange.Refusal
		attacks    uint64
	}{
		{"block", proper, nil, 0}, {"block", attack, refuseAttack, 1}, {"block", sly, refuseAttack, 1},
		{"detect", proper, nil, 0}, {"detect", attack, nil, 1}, {"detect", sly, nil, 2},
		{"block", "BREW /a HTTP/1.1\nHost: a.example" + agent, refuseMalformed, 0},
	} {
		w := newWorld(t, screened(func(s *site.Screen) { s.Mode = c.mode }))
		if got := w.ask(asked(t, c.head)); got != c.want {
			t.Errorf("%s: %.40q was answered with %v, want %v", c.mode, c.head, got, c.want)
		}
		s := w.Status()
		if s.Attacks != c.attacks || s.Mode != c.mode || c.want != nil && s.Blocked != 1 {
			t.Errorf("%s: %.40q: status %+v", c.mode, c.head, s)
		}
		for _, secret := range []string{"passwd", "or+1", "or 1=1", "Firefox"} {
			if strings.Contains(w.log.String(), secret) {
				t.Errorf("the log has %q from the request: %s", secret, w.log.String())
			}
		}
		if c.attacks > 0 && !strings.Contains(w.log.String(), "rules=") {
			t.Errorf("nothing was logged of an attack: %q", w.log.String())
		}
	}
}

// TestBodies: a body that was cut off is read as far as it goes, and a whole one that is malformed is an attack.
func TestBodies(t *testing.T) {
	const head = "POST /a HTTP/1.1\nHost: a.example\nContent-Length: 9\nContent-Type: application/json" + agent
	pad := strings.Repeat("x", 20<<10)
	for body, want := range map[string]*exchange.Refusal{
		`{"a":"hello","n":[1,2,3]}`:                          nil,
		`{"a":"<script>alert(1)</script>"}`:                  refuseAttack,
		`{"a":"hello`:                                        refuseAttack,
		`{"a":"hello","pad":"` + pad + `"}`:                  nil,
		`{"a":"<script>alert(1)</script>","p":"` + pad + `"`: refuseAttack,
	} {
		w := newWorld(t, screened())
		w.body = []byte(body)
		if got := w.ask(asked(t, head)); got != want {
			t.Errorf("%.40q was answered with %v, want %v; rules %v", body, got, want, w.Status().RuleHits)
		}
	}
}

// TestManyArguments: no attack hides behind more arguments than the rules look at, in a query, a form or JSON, of which only texts that differ count;
// of larger bodies more are looked at.
func TestManyArguments(t *testing.T) {
	form := strings.Repeat("b=&", minArgs)
	texts := make([]string, 2*minArgs)
	for i := range texts {
		texts[i] = "t" + strconv.Itoa(i)
	}
	list := func(n int) string { return `["` + strings.Join(texts[:n], `","`) + `","/etc/passwd"]` }
	for _, c := range []struct {
		name, target, kind, body string
		bytes                    site.Size
		want                     string // the rule that decides; empty: none
	}{
		{"query", "/a?" + form + "f=/etc/passwd", "", "", 16 << 10, "200004"},
		{"form", "/a", "application/x-www-form-urlencoded", form + "f=/etc/passwd", 16 << 10, "200005"},
		{"form that is cut off", "/a", "application/x-www-form-urlencoded", form + "f=" + strings.Repeat("x", 16<<10), 16 << 10, "200005"},
		{"form, just as many", "/a", "application/x-www-form-urlencoded", form[3:] + "f=x", 16 << 10, ""},
		{"list", "/a", "application/json", list(minArgs), 16 << 10, "200005"},
		{"list of a larger body", "/a", "application/json", list(minArgs), 128 << 10, "949110"},
		{"list of the same", "/a", "application/json", "[" + strings.Repeat(`"x",1,`, 2*minArgs) + "1]", 16 << 10, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, screened(func(s *site.Screen) { s.BodyBytes, s.CheapChecks = c.bytes, false }))
			w.body = []byte(c.body)
			refusal := w.ask(asked(t, "POST "+c.target+" HTTP/1.1\nHost: a.example\nContent-Length: 9\nContent-Type: "+c.kind+agent))
			met := slices.ContainsFunc(w.Status().RuleHits, func(h RuleHits) bool { return h.Rule == c.want })
			if (refusal != nil) != (c.want != "") || met != (c.want != "") {
				t.Errorf("answered with %v by rules %v, want %q", refusal, w.Status().RuleHits, c.want)
			}
		})
	}
}

// TestUnreadBodies: bodies that rules cannot read, or whose client may wait for an answer first, are not waited for.
func TestUnreadBodies(t *testing.T) {
	for kind, want := range map[string]bool{"application/json": true, "text/plain": true, "": true, "application/grpc+proto": false, "Image/png": false} {
		w := newWorld(t, screened())
		looked := false
		w.deps.Peek = func(*exchange.Exchange, int) ([]byte, bool, error) { looked = true; return nil, true, nil }
		w.ask(asked(t, "POST / HTTP/1.1\nHost: a.example\nTransfer-Encoding: chunked\nContent-Type: "+kind+agent))
		if looked != want {
			t.Errorf("a body of type %q was looked at: %v, want %v", kind, looked, want)
		}
	}
}

func TestExclusions(t *testing.T) {
	for _, words := range [][]string{{"930120", "932160"}, {"930000-932999"}, {"attack-lfi", "attack-rce"}} {
		w := newWorld(t, screened(func(s *site.Screen) { s.Exclude = words }))
		if got := w.ask(asked(t, attack)); got != nil {
			t.Errorf("without %v: %v, rules %v", words, got, w.Status().RuleHits)
		}
	}
	for _, word := range []string{"942100", "attack-sqli", "942000-942999"} {
		w := newWorld(t, screened(func(s *site.Screen) { s.Exclude = []string{word} }))
		w.ask(asked(t, sly))
		if hits := fmt.Sprint(w.Status().RuleHits); strings.Contains(hits, "check-sqli") || strings.Contains(hits, "942100") {
			t.Errorf("without %s the same check holds in the other tier: %s", word, hits)
		}
	}
	for _, word := range []string{`a" "b`, "5-3", "x\ny", "0"} {
		if err := New(Deps{}).Prepare(screened(func(s *site.Screen) { s.Exclude = []string{word} })); err == nil || !strings.Contains(err.Error(), "exclude") {
			t.Errorf("exclude %q: %v", word, err)
		}
	}
}

// TestSharing: routes with the same settings share a rule set, a reload keeps it, and what no route wants is forgotten.
func TestSharing(t *testing.T) {
	cfg := screened()
	one := *cfg.Routes[0].Screen
	one.Mode = "detect"
	cfg.Routes = append(cfg.Routes, &site.Route{Pool: "p", Screen: &one})
	s := New(Deps{})
	if err := s.Prepare(cfg); err != nil || len(s.engines) != 1 {
		t.Fatalf("%d rule sets, %v", len(s.engines), err)
	}
	before := s.engines[setupOf(&one, &cfg.Screening)]
	if err := s.Prepare(cfg); err != nil || s.engines[setupOf(&one, &cfg.Screening)] != before {
		t.Fatalf("a rule set was built again: %v", err)
	}
	off := &site.Site{Routes: []*site.Route{{Pool: "p", Screen: &site.Screen{Mode: "off"}}}}
	if s.Keep(off); len(s.engines) != 0 || s.Stage(off) != nil {
		t.Errorf("%d rule sets are left, stage %v", len(s.engines), s.Stage(off))
	}
}

// TestGivingWay: who passes unscreened, and who never does.
func TestGivingWay(t *testing.T) {
	for _, c := range []struct {
		name         string
		always, full bool
		over         bool
		class        exchange.Class
		want         *exchange.Refusal
		passed       uint64
	}{
		{"no place", false, true, false, exchange.Standard, nil, 1},
		{"no place, critical", false, true, false, exchange.Critical, nil, 1},
		{"no place, always", true, true, false, exchange.Critical, refuseNoPlace, 0},
		{"overload", false, false, true, exchange.Low, nil, 1},
		{"overload, critical", false, false, true, exchange.Critical, refuseAttack, 0},
		{"overload, always", true, false, true, exchange.Low, refuseAttack, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, screened(func(s *site.Screen) { s.Always = c.always }))
			w.over = c.over
			if c.full {
				w.place.take(true, 0)
			}
			x := asked(t, attack)
			x.Class = c.class
			if got := w.ask(x); got != c.want {
				t.Errorf("%s: %v, want %v", c.name, got, c.want)
			}
			if s := w.Status(); s.Passed != c.passed || c.full && s.Waited != 1 {
				t.Errorf("%s: %+v", c.name, s)
			}
		})
	}
}

// TestLongBodiesAreBounded: exchanges under way hold no more than BodyMemory of long bodies; the next gives way as its route says, and short ones never.
func TestLongBodiesAreBounded(t *testing.T) {
	for _, always := range []bool{false, true} {
		w := newWorld(t, screened(func(s *site.Screen) { s.BodyBytes, s.Always = 1<<20, always }))
		w.deps.BodyMemory = 1 << 20
		w.body = []byte("a=hello")
		post := func(length int) *exchange.Exchange {
			return asked(t, fmt.Sprintf("POST /a HTTP/1.1\nHost: a.example\nContent-Length: %d\nContent-Type: application/x-www-form-urlencoded%s", length, agent))
		}
		chunked := asked(t, "POST /a HTTP/1.1\nHost: a.example\nTransfer-Encoding: chunked\nContent-Type: application/x-www-form-urlencoded"+agent)
		under := exchange.Then(func(*exchange.Exchange) *exchange.Refusal {
			if got := w.held.Load(); got != 7*longBody {
				t.Errorf("%d bytes are held", got)
			}
			for _, x := range []*exchange.Exchange{post(512 << 10), chunked} {
				if got := w.ask(x); (got == refuseNoPlace) != always || w.held.Load() != 7*longBody {
					t.Errorf("always %v: one too many was answered with %v, and %d bytes are held", always, got, w.held.Load())
				}
			}
			w.ask(post(longBody))
			if s := w.Status(); s.Screened != 2 || s.Refused+s.Passed != 2 {
				t.Errorf("%+v", s)
			}
			if w.ask(post(shortBody)); w.Status().Screened != 3 {
				t.Error("a short body was not screened")
			}
			return nil
		})
		if got := w.stage.Serve(post(7*longBody), under); got != nil || w.held.Load() != 0 {
			t.Errorf("answered with %v, and %d bytes are held at the end", got, w.held.Load())
		}
	}
}

func TestSampleAndClients(t *testing.T) {
	w := newWorld(t, screened(func(s *site.Screen) { s.Sample = 0.25 }))
	for i := range 8 {
		w.rand = float64(i) / 8
		w.ask(asked(t, proper))
	}
	if s := w.Status(); s.Screened != 2 || s.Unsampled != 6 {
		t.Errorf("of eight requests %d were screened and %d not, want 2 and 6", s.Screened, s.Unsampled)
	}
	gone := errors.New("gone")
	w = newWorld(t, screened())
	for _, err := range []error{gone, refuseNoPlace} {
		w.deps.Peek = func(*exchange.Exchange, int) ([]byte, bool, error) { return nil, false, err }
		went := false
		r := w.stage.Serve(asked(t, "POST / HTTP/1.1\nHost: a\nContent-Length: 5"+agent), exchange.Then(func(*exchange.Exchange) *exchange.Refusal { went = true; return nil }))
		if want, _ := err.(*exchange.Refusal); went || r != want {
			t.Errorf("%v: %v, went on %v", err, r, went)
		}
	}
}

// TestLogIsBounded: an attack cannot fill the log, and what was not written is counted.
func TestLogIsBounded(t *testing.T) {
	w := newWorld(t, screened())
	for range 1000 {
		w.ask(asked(t, sly))
	}
	if n := strings.Count(w.log.String(), "\n"); n != logBurst || len(w.told) != 1 {
		t.Errorf("%d lines and %d events for 1000 attacks at once, want %d and 1", n, len(w.told), logBurst)
	}
	w.now = w.now.Add(time.Minute)
	w.ask(asked(t, sly))
	if !strings.Contains(w.log.String(), "not_logged_before=900") || len(w.told) != 2 || !strings.Contains(w.told[1], " 1000 ") {
		t.Errorf("what was left out is not told: %v, %s", w.told, w.log.String()[w.log.Len()-200:])
	}
}

func TestPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p place
		p.resize(2)
		for range 2 {
			if ok, waited := p.take(false, 0); !ok || waited {
				t.Fatal("a free place was not given")
			}
		}
		if ok, _ := p.take(true, 0); ok {
			t.Fatal("a third of two places was given")
		}
		var order []string
		var mu sync.Mutex
		var all sync.WaitGroup
		for _, who := range []string{"standard", "critical"} {
			all.Go(func() {
				ok, waited := p.take(who == "critical", time.Second)
				mu.Lock()
				defer mu.Unlock()
				if order = append(order, who); !ok || !waited {
					t.Errorf("%s: %v %v", who, ok, waited)
				}
			})
			synctest.Wait()
		}
		p.free()
		synctest.Wait()
		p.free()
		all.Wait()
		if fmt.Sprint(order) != "[critical standard]" {
			t.Errorf("places went to %v", order)
		}
		if ok, waited := p.take(false, time.Second); ok || !waited {
			t.Errorf("waiting in vain: %v %v", ok, waited)
		}
		p.resize(1)
		p.free()
		if size, busy := p.now(); size != 1 || busy != 1 {
			t.Errorf("%d of %d places taken, want 1 of 1", busy, size)
		}
		p.free()
		if ok, _ := p.take(false, 0); !ok {
			t.Error("the place that is left was not given")
		}
	})
}

func TestReduceJSON(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":1,"b":true,"c":null}`:                  `{"a":0,"b":0,"c":0}`,
		` [ {"id":1,"n":"x"} , {"id":2,"n":"x"} ] `:  `[{"id":0,"n":"x"}]`,
		`[{"id":1,"n":"x"},{"id":2,"n":"y","m":[]}]`: `[{"id":0,"n":"x"},{"n":"y","m":0}]`,
		`[1,2,[3,[4]]]`:                              `{}`,
		`"x"`:                                        `"x"`,
		`{"a":{"b":{"c":"x"}},"d":{"b":{"c":"x"}}}`:  `{"a":{"b":{"c":"x"}},"d":0}`,
		`{"a":"x\"]}","b":"x"}`:                      `{"a":"x\"]}","b":"x"}`,
		`{"a":`:                                      `{"a":`,
		strings.Repeat("[", 200) + `"x"` + strings.Repeat("]", 200): strings.Repeat("[", 200) + `"x"` + strings.Repeat("]", 200),
	} {
		if got := string(reduceJSON([]byte(in))); got != want {
			t.Errorf("%s became %s, want %s", in, got, want)
		}
	}
}

// FuzzReduceJSON: every string and every name of the text is still there, and it is one.
func FuzzReduceJSON(f *testing.F) {
	f.Add([]byte(`{"a":"b\"\\\u00e4","c":[1.5e3,true,null,{}],"d":{"e":[[],"x"]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		got := reduceJSON(text)
		if !json.Valid(text) {
			if !bytes.Equal(got, text) {
				t.Fatalf("%q became %q", text, got)
			}
			return
		}
		if !json.Valid(got) {
			t.Fatalf("%q became %q", text, got)
		}
		if before, after := textsOf(t, text), textsOf(t, got); !maps.Equal(before, after) {
			t.Fatalf("%q became %q: strings were %v and are %v", text, got, before, after)
		}
	})
}

// textsOf are the strings and names in a JSON text.
func textsOf(t *testing.T, text []byte) map[string]bool {
	out := map[string]bool{}
	d := json.NewDecoder(bytes.NewReader(text))
	for {
		token, err := d.Token()
		if err == io.EOF {
			return out
		}
		if err != nil {
			var number *json.UnmarshalTypeError // 1e999 is a JSON number and no float
			if errors.As(err, &number) {
				continue
			}
			t.Fatalf("%q: %v", text, err)
		}
		if s, is := token.(string); is {
			out[s] = true
		}
	}
}

// FuzzMendJSON: the beginning of a JSON text becomes a JSON text.
func FuzzMendJSON(f *testing.F) {
	f.Add([]byte(`{"a":"b\"\\\u00e4","c":[1.5e3,true,null,{}],"d":{"e":[[],"x"]}}`), 10)
	f.Add([]byte(`[[[{"a":[1,2`), 3)
	f.Fuzz(func(t *testing.T, text []byte, cut int) {
		if !json.Valid(text) || strings.Count(string(text), "[")+strings.Count(string(text), "{") > maxDepth {
			return
		}
		for n := range text {
			if n%7 != cut%7 && n != cut || len(bytes.TrimSpace(text[:n])) == 0 {
				continue
			}
			if got := mendJSON(text[:n]); !json.Valid(got) {
				t.Fatalf("%q became %q", text[:n], got)
			}
		}
	})
}
