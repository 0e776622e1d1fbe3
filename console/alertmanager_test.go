package console

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// send posts a body.
func send(h http.Handler, method, path, kind, body string, fields ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host = "127.0.0.1:7600"
	r.Header.Set("Content-Type", kind)
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestAlertmanagerAlerts(t *testing.T) {
	h := New(promising().deps)
	for query, want := range map[string]string{
		"":               "burn-page certificate-expiry",
		"silenced=false": "burn-page",
		"active=false":   "certificate-expiry",
		"filter=" + url.QueryEscape(`alertname="burn-page"`):                      "burn-page",
		"filter=" + url.QueryEscape(`alertname!="burn-page"`):                     "certificate-expiry",
		"filter=" + url.QueryEscape(`alertname=~"burn.*|x"`):                      "burn-page",
		"filter=" + url.QueryEscape(`severity!~"page|x"`):                         "certificate-expiry",
		"filter=" + url.QueryEscape(`host=`):                                      "burn-page",
		"filter=" + url.QueryEscape(`host=old.example`) + "&filter=severity=page": "",
	} {
		w := ask(h, "GET", "/api/v2/alerts?"+query)
		var list []amAlert
		if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil {
			t.Fatalf("%s: %v: %s", query, err, w.Body)
		}
		var names []string
		for _, a := range list {
			names = append(names, a.Labels["alertname"])
			if a.Fingerprint == "" || a.Annotations["description"] == "" || len(a.Receivers) != 2 || (a.Status.State == "suppressed") != (len(a.Status.SilencedBy) > 0) {
				t.Errorf("%+v", a)
			}
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	for _, bad := range []string{"burn", `alertname=~"("`, `alertname="\q"`, strings.Repeat("a", 600) + "=b"} {
		if w := ask(h, "GET", "/api/v2/alerts?filter="+url.QueryEscape(bad)); w.Code != http.StatusBadRequest {
			t.Errorf("%.20s: status %d", bad, w.Code)
		}
	}
	for _, path := range []string{"/api/v2/status", "/api/v2/receivers", "/api/v2/alerts/groups", "/api/v2/silences", "/api/v2/silence/s3"} {
		if w := ask(h, "GET", path); w.Code != http.StatusOK || !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
		if w := ask(New(Deps{}), "GET", path); w.Code >= 500 || strings.Contains(w.Body.String(), "null") {
			t.Errorf("%s of a node without any: %d %s", path, w.Code, w.Body)
		}
	}
}

func TestAlertmanagerSilences(t *testing.T) {
	rig := promising()
	now := time.Unix(1.8e9, 0)
	rig.deps.Now = func() time.Time { return now }
	var got SilenceOrder
	ended := ""
	rig.deps.Silence = func(o SilenceOrder) (Silence, error) {
		got = o
		return Silence{ID: "s4", Matchers: o.Matchers, Begin: now, End: now.Add(o.Length)}, nil
	}
	rig.deps.EndSilence = func(id string) error { ended = id; return nil }
	h := New(rig.deps)
	make := func(matchers, more string) *httptest.ResponseRecorder {
		return send(h, "POST", "/api/v2/silences", "application/json", `{"matchers":[`+matchers+`],"startsAt":"`+now.Format(time.RFC3339)+`","endsAt":"`+now.Add(time.Hour).Format(time.RFC3339)+`","createdBy":"ada","comment":"why"`+more+`}`)
	}
	w := make(`{"name":"alertname","value":"many-.*","isRegex":true},{"name":"route","value":"a.b","isRegex":false,"isEqual":true}`, "")
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"silenceID": "s4"`) || got.Matchers["alert"] != "many-*" || got.Matchers["route"] != "a.b" || got.Length != time.Hour || got.By != "ada" || got.Comment != "why" {
		t.Errorf("%d %s: %+v", w.Code, w.Body, got)
	}
	if w := make(`{"name":"route","value":"a","isRegex":false}`, `,"id":"s1"`); w.Code != http.StatusOK || ended != "s1" {
		t.Errorf("changing one: %d %s, ended %q", w.Code, w.Body, ended)
	}
	for matchers, more := range map[string]string{
		`{"name":"a","value":"b","isRegex":false,"isEqual":false}`:                          "not about",
		`{"name":"a","value":"b|c","isRegex":true}`:                                         "only .*",
		`{"name":"a","value":"b","isRegex":false},{"name":"a","value":"c","isRegex":false}`: "one value",
		`{"name":"a","value":"","isRegex":false}`:                                           "one value",
		`{"name":"a","value":"b*","isRegex":false}`:                                         "star",
		`{"name":"a"`: "understood",
	} {
		if w := make(matchers, ""); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), more) {
			t.Errorf("%s: %d %s", matchers, w.Code, w.Body)
		}
	}
	if w := send(h, "POST", "/api/v2/silences", "application/json", `{"matchers":[{"name":"a","value":"b"}],"startsAt":"`+now.Add(time.Hour).Format(time.RFC3339)+`"}`); w.Code != http.StatusBadRequest {
		t.Errorf("one that begins later: %d", w.Code)
	}
	ended = ""
	if w := send(h, "DELETE", "/api/v2/silence/s9", "", ""); w.Code != http.StatusOK || ended != "s9" {
		t.Errorf("ending one: %d", w.Code)
	}
	// Another site's page cannot: it is asked where it comes from, whatever it sends.
	if w := send(h, "POST", "/api/v2/silences", "text/plain", "{}", "Origin", "https://evil.example"); w.Code != http.StatusForbidden {
		t.Errorf("from another site: %d", w.Code)
	}
}

func TestGlobOf(t *testing.T) {
	for pattern, want := range map[string]string{"many-.*": "many-*", ".*": "*", "a": "a", `a\.b`: "a.b", `\Qa.b\E.*`: "a.b*", "^a.*$": "a*", ".*-page": "*-page",
		"a|b": "", "a+": "", "[ab]": "", "(a)": "", "(?i)a": "", "a.b": "", `a\*`: "", "(": "", "a.+": "", "a$b": "", "a^b": ""} {
		if got, plain := globOf(pattern); got != want && plain || plain != (want != "") {
			t.Errorf("%s: %q, %v", pattern, got, plain)
		}
	}
}

func TestSilenceByForm(t *testing.T) {
	h := New(promising().deps)
	form := func(match, length string) *httptest.ResponseRecorder {
		return send(h, "POST", "/api/v1/alerts/silence", "application/x-www-form-urlencoded", url.Values{"match": {match}, "for": {length}, "comment": {"a <b>"}}.Encode(), "Accept", "text/html", "Origin", "http://127.0.0.1:7600")
	}
	if w := form(" alert=many-*  route=a ", "30m"); w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/alerts" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	// What is wrong is said on the page, which keeps what was written.
	w := form("nonsense", "30m")
	if body := w.Body.String(); w.Code != http.StatusBadRequest || !strings.Contains(body, `id="wrong"`) || !strings.Contains(body, `value="nonsense"`) || !strings.Contains(body, "a &lt;b&gt;") {
		t.Errorf("%d %s", w.Code, body)
	}
	if w := form("a=b", "2h"); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "Too long.") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
