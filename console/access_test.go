package console

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/console/login"
	"github.com/even-keel/evenkeel/site"
)

const readerSecret, operatorSecret, writerSecret = "reads-all-day-long", "operates-all-night-long", "writes-samples-and-no-more"

// witness remembers what was recorded.
type witness struct {
	mu   sync.Mutex
	list []Action
}

// Record implements Recorder.
func (w *witness) Record(a Action) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.list = append([]Action{a}, w.list...)
}

func (w *witness) actions() []Action {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.list)
}

// guarded is a rig with everything plugged in that asks who comes.
func guarded() (*rig, *witness) {
	rig, seen := promising(), &witness{}
	rig.deps.Door = login.New(nil)
	rig.deps.Door.Use(site.Admin{Session: time.Hour, Tokens: []*site.AdminToken{
		{Name: "eye", Token: readerSecret, Role: site.RoleRead}, {Name: "hand", Token: operatorSecret, Role: site.RoleOperate},
		{Name: "agent", Token: writerSecret, Role: site.RoleWrite}}})
	rig.deps.Audit, rig.deps.Actions = seen, seen.actions
	rig.deps.Break = func(string, string, string, time.Time) error { return nil }
	rig.deps.SetSwitch = func(string, bool, time.Time, string) error { return nil }
	rig.deps.Purge = func(string, string) int { return 1 }
	view := rig.deps.View
	rig.deps.View = func() View {
		v := view()
		v.Pools[0].Breaker = &Breaker{State: BreakerOpen, Why: "held open by hand", ByHand: v.At.Add(time.Minute)}
		v.Degrade = &Degrade{Switches: []FeatureSwitch{{Name: "search", On: true, Why: "set by hand"}}}
		return v
	}
	return rig, seen
}

// navOf are the pages that the console's own navigation leads to.
func navOf(t *testing.T, h http.Handler, token string) []string {
	t.Helper()
	body := ask(h, "GET", "/", "Authorization", "Bearer "+token).Body.String()
	nav := body[strings.Index(body, "<nav"):strings.Index(body, "</nav>")]
	var list []string
	for _, m := range regexp.MustCompile(`href="([^"]+)"`).FindAllStringSubmatch(nav, -1) {
		list = append(list, m[1])
	}
	if len(list) < 14 || !slices.Contains(list, "/access") {
		t.Fatalf("the navigation leads to %q", list)
	}
	return list
}

// TestReaderSeesNoControls: no page that a reader can get to, nor what moves on it, has anything that changes something.
func TestReaderSeesNoControls(t *testing.T) {
	rig, _ := guarded()
	h := New(rig.node.all(rig.deps))
	logIn(h, operatorSecret) // a session that could be ended
	form := regexp.MustCompile(`<form[^>]*method="post"[^>]*>`)
	controls := func(path, token string) []string {
		w := ask(h, "GET", path, "Authorization", "Bearer "+token)
		if w.Code != http.StatusOK {
			t.Fatalf("%s: status %d: %s", path, w.Code, w.Body)
		}
		return slices.DeleteFunc(form.FindAllString(w.Body.String(), -1), func(f string) bool { return strings.Contains(f, `"/logout"`) })
	}
	pages := append(navOf(t, h, readerSecret), "/pools/shop")
	for _, page := range pages {
		if has := controls(page, readerSecret); len(has) > 0 {
			t.Errorf("%s shows a reader %q", page, has)
		}
		if has := controls(page, operatorSecret); len(has) == 0 {
			t.Errorf("%s shows an operator nothing to change: the test sees nothing", page)
		}
	}
	s, streams := serveReal(t, h), 0
	for _, page := range pages {
		if !strings.Contains(ask(h, "GET", page, "Authorization", "Bearer "+readerSecret).Body.String(), " data-live=") {
			continue // it shows what is over
		}
		live := "/live" + strings.TrimSuffix(page, "/")
		streams++
		ctx, cancel := context.WithCancel(t.Context())
		r, err := http.NewRequestWithContext(ctx, "GET", s.URL+live, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+readerSecret)
		a, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text := make([]byte, 0, 1<<20)
		for !strings.Contains(string(text), "\n\n") {
			n, err := a.Body.Read(text[len(text):cap(text)])
			if text = text[:len(text)+n]; err != nil {
				t.Fatalf("%s: %v", live, err)
			}
		}
		a.Body.Close()
		cancel()
		if n, out := strings.Count(string(text), `method=\"post\"`), strings.Count(string(text), `action=\"/logout\"`); n != out || out != 1 {
			t.Errorf("%s sends a reader %d forms, %d of them to sign out", live, n, out)
		}
	}
	if streams < len(pages)-4 {
		t.Errorf("%d of %d pages move: the test sees nothing", streams, len(pages))
	}
}

// TestRoles: whatever changes something asks for the role, tells which, changes nothing without it, and is recorded.
func TestRoles(t *testing.T) {
	rig, seen := guarded()
	past := &pastNode{}
	rig.deps.History = past.history()
	h := New(rig.deps)
	const ep = "/api/v1/pools/shop/endpoints/10.0.1.1:8000/"
	changes := []string{ep + "drain", ep + "down", ep + "up", "/api/v1/reload", "/api/v1/drain", "/api/v1/shed?class=low&for=1m", "/api/v1/breaker?pool=shop&state=auto",
		"/api/v1/switches?name=search&set=auto", "/api/v1/cache/purge?all=true", "/api/v1/alerts/silence?for=1h&match=a=b", "/api/v1/alerts/silences/s4/end", "/api/v1/alerts/test/many-429",
		"/api/v1/access/sessions/none/end", "/api/v1/marks?text=v42", "/api/v1/events/import?format=json&name=nightly", "/api/v2/silences"}
	for _, path := range changes {
		w := ask(h, "POST", path, "Authorization", "Bearer "+readerSecret)
		var p Problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != http.StatusForbidden || p.Reason != "role_needed" || p.Role != site.RoleOperate || !strings.Contains(p.Detail, "operate") {
			t.Errorf("%s by a reader: %d %s", path, w.Code, w.Body)
		}
		if w := ask(h, "POST", path, "Authorization", "Bearer "+operatorSecret); w.Code == http.StatusForbidden || w.Code == http.StatusUnauthorized {
			t.Errorf("%s by an operator: %d %s", path, w.Code, w.Body)
		}
	}
	if rig.reloads.Load() != 1 || rig.drains.Load() != 1 || len(past.notes) != 1 || past.notes[0].By != "hand" || len(past.reports) != 1 {
		t.Errorf("%d reloads, %d drains, marks %+v, %d reports", rig.reloads.Load(), rig.drains.Load(), past.notes, len(past.reports))
	}
	for _, path := range []string{"/api/v1/alerts/silence?for=1h&match=a=b"} {
		if w := ask(h, "DELETE", "/api/v2/silence/s4", "Authorization", "Bearer "+readerSecret); w.Code != http.StatusForbidden {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	for _, path := range []string{"/prometheus/api/v1/query", "/api/v1/query?q=AppEvents"} {
		if w := ask(h, "POST", path, "Authorization", "Bearer "+readerSecret); w.Code == http.StatusForbidden {
			t.Errorf("a reader cannot ask a long question of %s", path)
		}
	}
	// Every change is recorded, whether it was allowed or not.
	list := seen.actions()
	if want := 2*len(changes) + 1; len(list) != want {
		t.Errorf("%d actions are recorded, want %d", len(list), want)
	}
	first, second := list[len(list)-1], list[len(list)-2]
	if first.Who != "eye" || first.Role != "read" || first.Via != "token" || first.From != "192.0.2.1" || first.What != "POST "+ep+"drain" || first.OK || first.Reason != "role_needed" || first.Status != 403 {
		t.Errorf("recorded was %+v", first)
	}
	if second.Who != "hand" || second.Role != "operate" || !second.OK || second.Reason != "" || second.Status != 200 {
		t.Errorf("recorded was %+v", second)
	}
	for _, a := range list {
		if strings.Contains(a.String(), readerSecret) || strings.Contains(a.String(), operatorSecret) {
			t.Errorf("a secret was recorded: %s", a)
		}
	}
	if w := ask(h, "POST", "/api/v1/shed?class=low&for=soon%0a%1b[31m&pool="+strings.Repeat("x", 1000), "Authorization", "Bearer "+operatorSecret); w.Code != 400 {
		t.Errorf("status %d", w.Code)
	}
	if a := seen.actions()[0]; a.OK || a.Reason != "bad_shed" || len(a.What) > maxWhat+10 || strings.ContainsAny(a.What, "\n\x1b") {
		t.Errorf("recorded was %q", a.What)
	}
}

// TestWriterOnlyWrites: a token with the role write gets samples in and reaches nothing else, and samples are recorded as nobody's action.
func TestWriterOnlyWrites(t *testing.T) {
	rig, seen := guarded()
	var written int
	rig.deps.Prometheus = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if written++; r.URL.Path != writePath {
			t.Errorf("%s %s got through", r.Method, r.URL.Path)
		}
		w.WriteHeader(http.StatusNoContent)
	})
	h := New(rig.node.all(rig.deps))
	pages := navOf(t, h, operatorSecret)
	for _, token := range []string{writerSecret, operatorSecret} {
		if w := ask(h, "POST", writePath, "Authorization", "Bearer "+token); w.Code != http.StatusNoContent {
			t.Errorf("writing samples: %d %s", w.Code, w.Body)
		}
	}
	if w := ask(h, "POST", writePath, "Authorization", "Bearer "+readerSecret); w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "needs the role write, and eye has read") {
		t.Errorf("a reader writes samples: %d %s", w.Code, w.Body)
	}
	if written != 2 || len(seen.actions()) != 0 {
		t.Errorf("%d writes, recorded were %+v", written, seen.actions())
	}
	asked := 0
	for _, page := range append(pages, "/pools/shop", "/live", "/metrics", "/nowhere", "/api/v1/status", "/api/v1/stream", "/api/v1/config", "/api/v1/events", "/api/v1/access", "/api/v2/alerts",
		"/prometheus/api/v1/query?query=up", "/prometheus/api/v1/write", "/prometheus/") {
		asked++
		if w := ask(h, "GET", page, "Authorization", "Bearer "+writerSecret); w.Code != http.StatusForbidden || reason(w) != "role_needed" {
			t.Errorf("GET %s by a writer: %d %.200s", page, w.Code, w.Body)
		}
	}
	for _, path := range []string{"/prometheus/api/v1/query", "/api/v1/query?q=AppEvents", "/api/v1/reload", "/api/v1/drain", "/api/v1/marks?text=v42", "/api/v2/silences", "/prometheus/api/v1/write/", "//prometheus/api/v1/write"} {
		if w := ask(h, "POST", path, "Authorization", "Bearer "+writerSecret); w.Code != http.StatusForbidden {
			t.Errorf("POST %s by a writer: %d %.200s", path, w.Code, w.Body)
		}
	}
	if asked < 20 || rig.drains.Load() != 0 || rig.reloads.Load() != 0 {
		t.Errorf("%d pages, %d drains", asked, rig.drains.Load())
	}
	if w := logIn(h, writerSecret); w.Code != http.StatusForbidden || len(w.Result().Cookies()) != 0 || !strings.Contains(w.Body.String(), "opens no console") {
		t.Errorf("a writer signs in: %d %.300s", w.Code, w.Body)
	}
	if w := logIn(h, operatorSecret); w.Code != http.StatusSeeOther {
		t.Errorf("an operator after that: %d", w.Code)
	}
}

// TestWhatIsNotPluggedIn: the console of readers has nothing to change anything with, should the guard fail.
func TestWhatIsNotPluggedIn(t *testing.T) {
	rig, _ := guarded()
	rig.deps.History = (&pastNode{}).history()
	d := rig.deps.readOnly()
	if d.SetEndpoint != nil || d.Shed != nil || d.SetSwitch != nil || d.Purge != nil || d.Break != nil || d.Reload != nil || d.Drain != nil || d.Silence != nil || d.EndSilence != nil || d.TestAlert != nil ||
		d.History.Note != nil || d.History.Import != nil {
		t.Error("a reader's console could change something")
	}
}

func TestSignInsAreRecorded(t *testing.T) {
	rig, seen := guarded()
	now := time.Unix(1.8e9, 0)
	rig.deps.Now = func() time.Time { return now }
	h := New(rig.deps)
	logIn(h, "wrong")
	k := logIn(h, operatorSecret).Result().Cookies()[0]
	ask(h, "POST", "/logout", "Cookie", k.Name+"="+k.Value)
	list := seen.actions()
	if len(list) != 3 || list[2].OK || list[2].What != "sign in" || list[2].Reason != "not_known" || list[2].Role != "" || !list[1].OK || list[1].Who != "hand" || list[0].What != "sign out" || list[0].Who != "hand" {
		t.Errorf("recorded was %+v", list)
	}
	// Who guesses does not push out what operators did.
	for i := range 100 {
		r := httptest.NewRequest("POST", "/login", strings.NewReader("token=guess"))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.RemoteAddr = fmt.Sprintf("192.0.2.%d:1", i)
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	if n := len(seen.actions()); n != 3+denialsOnce-1 {
		t.Errorf("%d actions are recorded", n)
	}
	now = now.Add(denialEvery)
	logIn(h, "wrong")
	if n := len(seen.actions()); n != 3+denialsOnce {
		t.Errorf("a minute later %d actions are recorded", n)
	}
}

func TestTooManyTries(t *testing.T) {
	rig, _ := guarded()
	h := New(rig.deps)
	var w *httptest.ResponseRecorder
	for range 11 {
		w = logIn(h, "wrong")
	}
	if w.Code != http.StatusTooManyRequests || reason(w) != "too_many_tries" || w.Header().Get("Retry-After") == "" {
		t.Errorf("the eleventh wrong try: %d %s", w.Code, w.Body)
	}
	if w := ask(h, "GET", "/api/v1/status", "Authorization", "Bearer "+operatorSecret); w.Code != http.StatusTooManyRequests || reason(w) != "too_many_tries" {
		t.Errorf("a bearer token from there: %d %s", w.Code, w.Body)
	}
}

// TestWherePeopleWantedToGo: signing in goes on to the page that was wanted, and never to another site.
func TestWherePeopleWantedToGo(t *testing.T) {
	rig, _ := guarded()
	h := New(rig.deps)
	if w := ask(h, "GET", "/overload?span=10m", "Accept", "text/html"); w.Header().Get("Location") != "/login?next="+url.QueryEscape("/overload?span=10m") {
		t.Errorf("somebody is sent to %q", w.Header().Get("Location"))
	}
	if w := ask(h, "GET", "/login?next=/overload"); !strings.Contains(w.Body.String(), `name="next" value="/overload"`) || strings.Contains(w.Body.String(), `id="sso"`) {
		t.Errorf("the form: %s", w.Body)
	}
	for next, want := range map[string]string{"/alerts": "/alerts", "//evil.example": "/", "https://evil.example": "/"} {
		r := httptest.NewRequest("POST", "/login", strings.NewReader(url.Values{"token": {readerSecret}, "next": {next}}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Header().Get("Location") != want {
			t.Errorf("next %s: sent to %q", next, w.Header().Get("Location"))
		}
	}
}

// TestStreamEndsWithItsSession: who was signed out does not go on watching.
func TestStreamEndsWithItsSession(t *testing.T) {
	rig, _ := guarded()
	h := New(rig.deps)
	k := logIn(h, readerSecret).Result().Cookies()[0]
	s := serveReal(t, h)
	r, err := http.NewRequest("GET", s.URL+"/api/v1/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.AddCookie(k)
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for b := make([]byte, 64<<10); ; {
			if _, err := a.Body.Read(b); err != nil {
				return
			}
		}
	}()
	w := ask(h, "GET", "/api/v1/access", "Authorization", "Bearer "+operatorSecret)
	var v Access
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil || len(v.Sessions) != 1 || v.Sessions[0].Name != "eye" || v.You.Name != "hand" || !v.Closed {
		t.Fatalf("%v: %s", err, w.Body)
	}
	if w := ask(h, "POST", "/api/v1/access/sessions/"+v.Sessions[0].ID+"/end", "Authorization", "Bearer "+operatorSecret); w.Code != http.StatusOK {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	select {
	case <-ended:
	case <-time.After(15 * time.Second):
		t.Error("the stream goes on")
	}
}

func TestWhoSilences(t *testing.T) {
	for _, c := range []struct{ via, name, said, want string }{
		{login.ViaLocal, "local", "ada", "ada"}, {login.ViaLocal, "local", "", "local"}, {login.ViaToken, "ops", "ada", "ada (ops)"}, {login.ViaToken, "ops", "ops", "ops"},
		{login.ViaOIDC, "ada@shop.example", "bob", "ada@shop.example"}, {login.ViaCertificate, "ada", "", "ada"},
	} {
		r := httptest.NewRequest("POST", "/", nil)
		r = r.WithContext(context.WithValue(r.Context(), whoKey{}, login.Person{Name: c.name, Via: c.via}))
		if got := byName(r, c.said); got != c.want {
			t.Errorf("%+v: by %q", c, got)
		}
	}
}
