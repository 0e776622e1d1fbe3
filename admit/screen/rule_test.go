package screen

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

func TestRules(t *testing.T) {
	for _, c := range []struct {
		name string
		rule site.Rule
		yes  []string // request lines, with fields after commas
		no   []string
	}{
		{"exact path", site.Rule{Paths: []string{"/admin"}}, []string{"GET /admin", "GET /%61dmin", "GET //admin", "GET /x/../admin", "GET /admin?a=b"}, []string{"GET /admins", "GET /"}},
		{"prefix", site.Rule{Paths: []string{"/admin/*"}}, []string{"GET /admin", "GET /admin/", "GET /admin/a/b", "GET /./admin/x", `GET /admin\x`}, []string{"GET /adminx", "GET /a/admin/"}},
		{"spelled", site.Rule{Paths: []string{"/a%20b/*", "/x//%79"}}, []string{"GET /a%20b/c", "GET /a%20b", "GET /x/y", "GET /x//y"}, []string{"GET /a%2520b/c", "GET /x"}},
		{"path_match", site.Rule{PathMatch: `\.php$`}, []string{"GET /a.php", "GET /a%2ephp"}, []string{"GET /a.php5"}},
		{"host", site.Rule{Hosts: []string{"a.example", "*.b.example"}}, []string{"GET /, Host: a.example", "GET /, Host: x.b.example"}, []string{"GET /, Host: b.example", "GET /, Host: c.example"}},
		{"method", site.Rule{Methods: []string{"DELETE"}}, []string{"DELETE /"}, []string{"GET /", "delete /"}},
		{"header", site.Rule{Headers: map[string]string{"x-bad": "^[0-9]+$"}}, []string{"GET /, X-Bad: 12", "GET /, X-Bad: a, X-BAD: 3"}, []string{"GET /", "GET /, X-Bad: a"}},
		{"agent", site.Rule{UserAgent: "(?i)curl|wget"}, []string{"GET /, User-Agent: Curl/8", "GET /, User-Agent: Mozilla, User-Agent: curl"}, []string{"GET /", "GET /, User-Agent: Mozilla"}},
		{"no agent", site.Rule{UserAgent: "^$"}, []string{"GET /", "GET /, User-Agent:"}, []string{"GET /, User-Agent: x"}},
		{"query", site.Rule{Query: "debug=true"}, []string{"GET /?debug=true", "GET /?a&deb%75g=true"}, []string{"GET /", "GET /debug=true"}},
		{"from", site.Rule{From: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, []string{"GET /"}, nil},
		{"from elsewhere", site.Rule{From: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}}, nil, []string{"GET /"}},
		{"region", site.Rule{Regions: []string{"xx"}}, []string{"GET /, Region: xx"}, []string{"GET /", "GET /, Region: yy"}},
		{"two", site.Rule{Paths: []string{"/a"}, Methods: []string{"POST"}}, []string{"POST /a"}, []string{"GET /a", "POST /b"}},
		{"not", site.Rule{Methods: []string{"GET", "HEAD"}, Not: true}, []string{"POST /"}, []string{"GET /"}},
	} {
		c.rule.Name, c.rule.Action = "r", actionBlock
		w := newWorld(t, &site.Site{Rules: []*site.Rule{&c.rule}})
		for i, heads := range [][]string{c.yes, c.no} {
			for _, text := range heads {
				parts := strings.Split(text, ", ")
				parts[0] += " HTTP/1.1"
				if !strings.Contains(text, "Host:") {
					parts = append(parts, "Host: a.example")
				}
				x := asked(t, strings.ReplaceAll(strings.Join(parts, "\n"), `\`, "%5c"))
				x.Region = x.Request.Fields[0].Value
				if got := w.ask(x); (got != nil) != (i == 0) {
					t.Errorf("%s: %s: %v", c.name, text, got)
				}
			}
		}
	}
}

// TestRuleByHostOfHTTP2: a pattern for the Host field holds in HTTP/2 too, whose host is no field.
func TestRuleByHostOfHTTP2(t *testing.T) {
	w := newWorld(t, &site.Site{Rules: []*site.Rule{{Name: "r", Action: actionBlock, Headers: map[string]string{"Host": "^bad"}}}})
	for head, blocked := range map[string]bool{"GET / HTTP/1.1\nHost: bad.example": true, "GET / HTTP/1.1\nHost: good.example": false} {
		x := asked(t, head)
		if got := w.ask(x); (got != nil) != blocked {
			t.Errorf("%q: %v", head, got)
		}
		x.Request.Fields = nil
		if got := w.ask(x); (got != nil) != blocked {
			t.Errorf("%q without the field: %v", head, got)
		}
	}
}

// TestRulesInOrder: the first rule that decides does, allow spares screening, and counting decides nothing.
func TestRulesInOrder(t *testing.T) {
	cfg := screened()
	cfg.Rules = []*site.Rule{
		{Name: "seen", Paths: []string{"/*"}, Action: actionCount},
		{Name: "ours", Headers: map[string]string{"X-Key": "^secret$"}, Action: actionAllow},
		{Name: "none", Paths: []string{"/private/*"}, Action: actionBlock, Status: 451},
	}
	w := newWorld(t, cfg)
	if r := w.ask(asked(t, "GET /private/a HTTP/1.1\nHost: a")); r == nil || r.Status != 451 || r.Limit != "none" || r.Reason != "rule" {
		t.Errorf("blocked: %+v", r)
	}
	x := asked(t, "GET /private/a?file=/etc/passwd HTTP/1.1\nHost: a\nX-Key: secret")
	if r := w.ask(x); r != nil || !x.Screened {
		t.Errorf("allowed: %+v, %v", r, x.Screened)
	}
	if s := w.Status(); s.Screened != 0 || fmt.Sprint(s.RuleHits) != "[{seen 2} {none 1} {ours 1}]" {
		t.Errorf("status %+v", s)
	}
}

func TestLimitByWindow(t *testing.T) {
	cfg := &site.Site{Rules: []*site.Rule{{Name: "logins", Paths: []string{"/login"}, Action: actionLimit, Count: 10, Window: time.Minute}}}
	w := newWorld(t, cfg)
	ask := func(ip string) (*exchange.Refusal, time.Duration) {
		x := asked(t, "POST /login HTTP/1.1\nHost: a")
		x.IP = netip.MustParseAddr(ip)
		r := w.ask(x)
		return r, x.RetryAfter
	}
	w.now = time.Unix(1e9, 0).Truncate(time.Minute).Add(30 * time.Second)
	for i := range 10 {
		if r, _ := ask("192.0.2.1"); r != nil {
			t.Fatalf("request %d was refused", i+1)
		}
	}
	r, wait := ask("192.0.2.1")
	if r == nil || r.Status != 429 || r.Problem != exchange.ProblemAbnormal || r.Limit != "logins" {
		t.Fatalf("the eleventh: %+v", r)
	}
	if other, _ := ask("192.0.2.2"); other != nil {
		t.Error("another address was refused")
	}
	w.now = w.now.Add(wait - 2*time.Second)
	if r, _ := ask("192.0.2.1"); r == nil {
		t.Error("let in long before the time that was told")
	}
	w.now = w.now.Add(10 * time.Second)
	if r, _ := ask("192.0.2.1"); r != nil {
		t.Error("refused after the time that was told")
	}
	if w.Keep(cfg); w.Stage(cfg) == nil || w.windows["logins"] == nil {
		t.Error("a reload forgot the window")
	}
}

// TestLimitOverReload: what was counted stays counted, as long as window and groups are the same, whatever else changed.
func TestLimitOverReload(t *testing.T) {
	rule := func(change func(*site.Rule)) *site.Site {
		r := &site.Rule{Name: "logins", Action: actionLimit, Count: 2, Window: time.Minute}
		change(r)
		return &site.Site{Rules: []*site.Rule{r}}
	}
	none := func(*site.Rule) {}
	w := newWorld(t, rule(none))
	for _, c := range []struct {
		name    string
		cfg     *site.Site
		refused bool // the third request
	}{
		{"the same", rule(none), true},
		{"the default said", rule(func(r *site.Rule) { r.By = []string{site.ByIP} }), true},
		{"higher", rule(func(r *site.Rule) { r.Count = 3 }), false},
		{"by others", rule(func(r *site.Rule) { r.By = []string{site.ByIP, site.ByRoute} }), false},
		{"longer", rule(func(r *site.Rule) { r.Window = time.Hour }), false},
	} {
		w.windows = map[string]*counted{}
		w.stage = w.Stage(rule(none))
		for range 2 {
			if r := w.ask(asked(t, proper)); r != nil {
				t.Fatalf("%s: %v", c.name, r)
			}
		}
		w.stage = w.Stage(c.cfg)
		w.Keep(c.cfg)
		if r := w.ask(asked(t, proper)); (r != nil) != c.refused {
			t.Errorf("%s: the third request was answered with %v", c.name, r)
		}
	}
}

// TestWindowIsExactEnough: for random streams the count is within a tenth of the true one, and for steady ones exact.
func TestWindowIsExactEnough(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	const most = 200
	for range 20 {
		w := newWindow(time.Minute)
		var times []time.Duration
		wrong, asked := 0, 0
		for at := time.Duration(0); at < 20*time.Minute; at += time.Duration(random.ExpFloat64() * float64(300*time.Millisecond)) {
			over, _ := w.add(7, at, most)
			times = append(times, at)
			for len(times) > 0 && times[0] <= at-time.Minute {
				times = times[1:]
			}
			asked++
			if n := len(times); over && n < most*9/10 || !over && n > most*11/10 {
				wrong++
			}
		}
		if wrong*100 > asked {
			t.Errorf("%d of %d decisions are off by more than a tenth", wrong, asked)
		}
	}
}

// TestWindowIsBounded: a flood of keys resets nobody who is near the limit.
func TestWindowIsBounded(t *testing.T) {
	w := newWindow(time.Minute)
	for range 50 {
		w.add(42, 0, 10)
	}
	for i := range uint64(1 << 20) {
		w.add(i*0x9e3779b97f4a7c15+12345, time.Second, 10)
	}
	if over, _ := w.add(42, 2*time.Second, 10); !over {
		t.Error("a million other keys made the table forget one that is over its limit")
	}
}

func TestCheapChecks(t *testing.T) {
	for target, want := range map[string]*finding{
		"/":                                      nil,
		"/a%20b/c?x=1&y=two+words":               nil,
		"/r%C3%A9sum%C3%A9?q=na%C3%AFve":         nil,
		"/?redirect=https://shop.example/a":      nil,
		"/?q=O%27Reilly":                         nil,
		"/100%25":                                nil,
		"/?email=a@b.example&t=10:30":            nil,
		"/a%2e%2e/b":                             nil,
		"/a/%2e%2e/b":                            foundPath,
		`/a/..%5cb`:                              foundPath,
		"/a%252e%252e%252fb":                     foundEncoding,
		"/a%00b":                                 foundEncoding,
		"/a%c0%afb":                              foundEncoding,
		"/?x=%c0%ae":                             foundEncoding,
		"/?x=a%00":                               foundEncoding,
		"/?x=%27%20or%201%3d1%20--%20":           foundSQL,
		"/?a=1&b=1+union+select+1,2,3":           foundSQL,
		"/?x=%3Cscript%3Ealert(1)%3C/script%3E":  foundXSS,
		"/?x=%22+onmouseover%3Dalert(1)+a%3D%22": foundXSS,
		"/" + strings.Repeat("a", 3000):          foundSize,
		"/?" + strings.Repeat("a&", 300):         foundSize,
		"/?" + strings.Repeat("a", 9000):         foundSize,
	} {
		if got := newCheap(&site.Screen{Anomaly: 5}).check(asked(t, "GET "+target+" HTTP/1.1\nHost: a")); got != want {
			t.Errorf("%.60s: found %v, want %v", target, got, want)
		}
	}
}

func FuzzChecks(f *testing.F) {
	f.Add([]byte("/a%2e%2e/b?x=%27or+1%3D1&y=%"), []byte("/a/./b"))
	f.Fuzz(func(t *testing.T, target, path []byte) {
		c := &cheap{sqli: true, xss: true}
		checkPath(bounded(path)[:min(len(path), maxPath)])
		c.arguments(queryOf(target))
		// All paths begin with a slash; routing refuses others, and those with dot segments that are left here ("..;").
		plain := string(plainPath(append([]byte("/"), path...), nil))
		if strings.Contains(plain, "//") || strings.Contains(plain+"/", "/../") || plain[0] != '/' {
			t.Errorf("%q became %q", path, plain)
		}
	})
}

func BenchmarkCheap(b *testing.B) {
	c := newCheap(&site.Screen{Anomaly: 5})
	x := asked(b, proper)
	for b.Loop() {
		c.check(x)
	}
}

func BenchmarkRuleSet(b *testing.B) {
	e, err := newEngine(setupOf(screened().Routes[0].Screen, &site.Screening{}))
	if err != nil {
		b.Fatal(err)
	}
	js := `{"user":"anna","items":[` + strings.Repeat(`{"id":123,"name":"green tea","price":4.5},`, 22) + `{"id":1}]}`
	for name, c := range map[string][2]string{
		"bare": {"GET / HTTP/1.1\nHost: a.example" + agent, ""}, "args": {proper, ""},
		"json": {"POST /a HTTP/1.1\nHost: a.example\nContent-Type: application/json\nContent-Length: 1000" + agent, js},
	} {
		b.Run(name, func(b *testing.B) {
			x := asked(b, c[0])
			for b.Loop() {
				e.run(x, []byte(c[1]), true)
			}
		})
	}
}

// TestWindowTakesWhoIsLate: a request that read the clock just before a window ended comes behind one that did after it, and nobody's count is forgotten for it.
func TestWindowTakesWhoIsLate(t *testing.T) {
	w := newWindow(time.Minute)
	for range 10 {
		if over, _ := w.add(7, 59*time.Second, 10); over {
			t.Fatal("refused within the limit")
		}
	}
	for i, c := range []struct {
		at   time.Duration
		wait time.Duration
	}{{60 * time.Second, 12 * time.Second}, {60*time.Second - time.Millisecond, 18 * time.Second}, {60 * time.Second, 24 * time.Second}} {
		if over, wait := w.add(7, c.at, 10); !over || (wait-c.wait).Abs() > time.Second {
			t.Errorf("the %dth request after ten: refused: %v, for %s, want about %s", i+1, over, wait, c.wait)
		}
	}
	if over, _ := w.add(7, 10*time.Minute, 10); over {
		t.Error("refused for what came long ago")
	}
	if over, _ := w.add(7, 5*time.Minute, 10); over {
		t.Error("a clock that was put back keeps everybody out")
	}
}
