package receiver

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/even-keel/evenkeel/alert"
	"github.com/even-keel/evenkeel/site"
)

var (
	fired = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	shop  = Site{Name: "shop", Link: "http://127.0.0.1:7600"}
)

func sample(states ...string) alert.Notification {
	n := alert.Notification{Receiver: "r", Group: `["r","many-503"]`, Labels: map[string]string{"alert": "many-503"}, Status: alert.Resolved, At: fired.Add(time.Minute)}
	for i, state := range states {
		a := alert.Alert{Name: "many-503", Severity: alert.Page, Labels: map[string]string{"route": fmt.Sprintf("r%d", i)}, Summary: "Many requests are answered with 503",
			Text: "60 of 100 requests <of> the last 5m0s", Link: "/overload", State: state, Fired: fired}
		if state == alert.Resolved {
			a.Ended = fired.Add(time.Hour)
		} else {
			n.Status = alert.Firing
		}
		n.Alerts = append(n.Alerts, a)
	}
	return n
}

// catcher is an HTTP receiver.
type catcher struct {
	*httptest.Server
	mu     sync.Mutex
	bodies []map[string]any
	lists  [][]map[string]any
	heads  []http.Header
	path   string
	status int
}

func newCatcher(t *testing.T) *catcher {
	c := &catcher{status: http.StatusOK}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		c.mu.Lock()
		defer c.mu.Unlock()
		var one map[string]any
		var many []map[string]any
		if json.Unmarshal(b, &one) == nil {
			c.bodies = append(c.bodies, one)
		} else if json.Unmarshal(b, &many) == nil {
			c.lists = append(c.lists, many)
		}
		c.heads, c.path = append(c.heads, r.Header.Clone()), r.URL.Path
		w.WriteHeader(c.status)
		io.WriteString(w, "said")
	}))
	t.Cleanup(c.Close)
	return c
}

// at finds a value in decoded JSON by its path: keys and indices.
func at(t *testing.T, v any, path ...any) any {
	t.Helper()
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, ok := v.(map[string]any)
			if !ok {
				t.Fatalf("%v: no object at %q", path, p)
			}
			v = m[p]
		case int:
			l, ok := v.([]any)
			if !ok || p >= len(l) {
				t.Fatalf("%v: no list with %d", path, p)
			}
			v = l[p]
		}
	}
	return v
}

func TestKinds(t *testing.T) {
	c := newCatcher(t)
	secret := site.Secret(c.URL + "/hook")
	for name, k := range map[string]struct {
		r     site.Receiver
		want  map[string]any // of the first body, path: value
		count int
	}{
		"webhook": {site.Receiver{Webhook: &site.ToWebhook{URL: c.URL, Format: "alertmanager", Token: "secret"}}, map[string]any{
			"version": "4", "status": "firing", "receiver": "r", "groupKey": `["r","many-503"]`, "groupLabels.alertname": "many-503", "commonLabels.site": "shop",
			"alerts.0.status": "firing", "alerts.0.labels.route": "r0", "alerts.0.startsAt": "2026-05-01T12:00:00Z", "alerts.0.endsAt": "0001-01-01T00:00:00Z",
			"alerts.1.status": "resolved", "alerts.1.endsAt": "2026-05-01T13:00:00Z", "commonAnnotations.runbook_url": alert.Runbook("many-503"), "commonLabels.route": nil}, 1},
		"azure": {site.Receiver{Webhook: &site.ToWebhook{URL: c.URL, Format: "azure"}}, map[string]any{
			"schemaId": "azureMonitorCommonAlertSchema", "data.essentials.monitorCondition": "Fired", "data.essentials.severity": "Sev1", "data.essentials.alertRule": "many-503",
			"data.essentials.firedDateTime": "2026-05-01T12:00:00Z", "data.essentials.essentialsVersion": "1.0", "data.alertContext.labels.route": "r0"}, 2},
		"slack":     {site.Receiver{Slack: &site.ToSlack{URL: secret}}, map[string]any{"text": "[shop] PAGE: Many requests are answered with 503 and 1 more", "blocks.0.type": "header", "blocks.1.text.type": "mrkdwn"}, 1},
		"teams":     {site.Receiver{Teams: &site.ToTeams{URL: secret}}, map[string]any{"type": "message", "attachments.0.contentType": "application/vnd.microsoft.card.adaptive", "attachments.0.content.type": "AdaptiveCard"}, 1},
		"pagerduty": {site.Receiver{PagerDuty: &site.ToPagerDuty{Key: "key", URL: c.URL}}, map[string]any{"routing_key": "key", "event_action": "trigger", "payload.severity": "critical", "payload.source": "shop"}, 2},
	} {
		c.bodies, c.heads = nil, nil
		if err := New(&k.r)(t.Context(), shop, sample(alert.Firing, alert.Resolved)); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(c.bodies) != k.count {
			t.Errorf("%s: %d messages, want %d", name, len(c.bodies), k.count)
			continue
		}
		for path, want := range k.want {
			var keys []any
			for part := range strings.SplitSeq(path, ".") {
				if len(part) == 1 && part[0] >= '0' && part[0] <= '9' {
					keys = append(keys, int(part[0]-'0'))
				} else {
					keys = append(keys, part)
				}
			}
			if got := at(t, c.bodies[0], keys...); got != want {
				t.Errorf("%s: %s is %v, want %v", name, path, got, want)
			}
		}
		switch name {
		case "webhook":
			if c.heads[0].Get("Authorization") != "Bearer secret" {
				t.Error("the token is missing")
			}
		case "slack":
			text := at(t, c.bodies[0], "blocks", 1, "text", "text").(string)
			if !strings.Contains(text, "&lt;of&gt;") || !strings.Contains(text, "<http://127.0.0.1:7600/overload|console>") {
				t.Errorf("slack: %q", text)
			}
		case "pagerduty":
			if c.bodies[1]["event_action"] != "resolve" || c.bodies[0]["dedup_key"] == c.bodies[1]["dedup_key"] {
				t.Errorf("pagerduty: %v", c.bodies)
			}
		case "azure":
			if at(t, c.bodies[1], "data", "essentials", "monitorCondition") != "Resolved" {
				t.Errorf("azure: %v", c.bodies[1])
			}
		}
	}
}

func TestAlertmanagerBody(t *testing.T) {
	c := newCatcher(t)
	r := &site.Receiver{Alertmanager: &site.ToAlertmanager{URL: c.URL + "/am/"}}
	if err := New(r)(t.Context(), shop, sample(alert.Firing, alert.Resolved)); err != nil {
		t.Fatal(err)
	}
	got := c.lists[0]
	if c.path != "/am/api/v2/alerts" || len(got) != 2 || got[0]["endsAt"] != "2026-05-01T12:05:00Z" || got[1]["endsAt"] != "2026-05-01T13:00:00Z" || got[0]["generatorURL"] != "http://127.0.0.1:7600/overload" {
		t.Errorf("%s: %v", c.path, got)
	}
}

// TestErrors: what a server refuses is not sent again, what it cannot take now is; addresses are secrets and stand in no error.
func TestErrors(t *testing.T) {
	c := newCatcher(t)
	send := New(&site.Receiver{Slack: &site.ToSlack{URL: site.Secret(c.URL + "/T0KEN")}})
	for status, permanent := range map[int]bool{400: true, 404: true, 301: true, 408: false, 429: false, 500: false, 503: false} {
		c.status = status
		err := send(t.Context(), shop, sample(alert.Firing))
		if err == nil || errors.Is(err, errPermanent) != permanent || strings.Contains(err.Error(), "T0KEN") {
			t.Errorf("status %d: %v", status, err)
		}
	}
	c.Close()
	if err := send(t.Context(), shop, sample(alert.Firing)); err == nil || errors.Is(err, errPermanent) || strings.Contains(err.Error(), "T0KEN") {
		t.Errorf("nobody there: %v", err)
	}
}

// TestSomeRefused: of alerts that are told one at a time, one that is refused for good does not keep the others from another try.
func TestSomeRefused(t *testing.T) {
	refused, later := fmt.Errorf("400: %w", errPermanent), errors.New("503")
	for _, k := range []struct {
		answers   []error
		permanent bool
	}{{[]error{refused, later}, false}, {[]error{later, nil}, false}, {[]error{refused, nil}, true}, {[]error{refused, refused}, true}} {
		i := 0
		err := each(sample(alert.Firing, alert.Firing), func(alert.Alert) error { i++; return k.answers[i-1] })
		if err == nil || i != 2 || errors.Is(err, errPermanent) != k.permanent {
			t.Errorf("%v: %v after %d", k.answers, err, i)
		}
	}
}

func TestExec(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "tell.sh")
	if err := os.WriteFile(program, []byte("#!/bin/sh\ncat >\"$1\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out.json")
	if err := New(&site.Receiver{Exec: &site.ToExec{Command: []string{program, out}, Timeout: time.Minute}})(t.Context(), shop, sample(alert.Firing)); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(out)
	var m message
	if err != nil || json.Unmarshal(b, &m) != nil || m.Version != "4" || m.Alerts[0].Labels["alertname"] != "many-503" {
		t.Errorf("%v: %s", err, b)
	}
	for _, command := range [][]string{{"false"}, {filepath.Join(dir, "none")}} {
		if err := New(&site.Receiver{Exec: &site.ToExec{Command: command, Timeout: time.Minute}})(t.Context(), shop, sample(alert.Firing)); err == nil {
			t.Errorf("%q did not fail", command)
		}
	}
	err = New(&site.Receiver{Exec: &site.ToExec{Command: []string{"sleep", "600"}, Timeout: 20 * time.Millisecond}})(t.Context(), shop, sample(alert.Firing))
	if err == nil || !strings.Contains(err.Error(), "did not end within 20ms") {
		t.Error(err)
	}
}

// sink is a mail server that takes everything, with STARTTLS and a login.
type sink struct {
	net.Listener
	mails chan string
	talk  chan []string
	conf  *tls.Config
}

func newSink(t *testing.T) *sink {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pair := httptest.NewUnstartedServer(nil)
	pair.StartTLS()
	defer pair.Close()
	s := &sink{ln, make(chan string, 10), make(chan []string, 10), pair.TLS.Clone()}
	s.conf.NextProtos = nil
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			s.serve(conn)
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return s
}

// serve speaks as much SMTP as a client needs.
func (s *sink) serve(conn net.Conn) {
	defer func() { conn.Close() }()
	r, said := bufio.NewReader(conn), []string{}
	answer := func(text string) { fmt.Fprintf(conn, "%s\r\n", text) }
	answer("220 sink")
	defer func() { s.talk <- said }()
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		said = append(said, line)
		word, _, _ := strings.Cut(strings.ToUpper(line), " ")
		switch word {
		case "EHLO":
			answer("250-sink\r\n250-STARTTLS\r\n250 AUTH PLAIN")
		case "STARTTLS":
			answer("220 go on")
			conn = tls.Server(conn, s.conf)
			r = bufio.NewReader(conn)
		case "RCPT":
			if strings.Contains(line, "nobody@") {
				answer("550 no such mailbox")
				continue
			}
			answer("250 ok")
		case "DATA":
			answer("354 go on")
			var mail strings.Builder
			for {
				line, err := r.ReadString('\n')
				if err != nil || line == ".\r\n" {
					break
				}
				mail.WriteString(line)
			}
			s.mails <- mail.String()
			answer("250 taken")
		case "AUTH":
			answer("235 welcome")
		case "QUIT":
			answer("221 bye")
			return
		default:
			answer("250 ok")
		}
	}
}

func TestMail(t *testing.T) {
	s := newSink(t)
	to := &site.ToEmail{Server: s.Addr().String(), From: "evenkeel@shop.example", To: []string{"ops@shop.example"}, User: "u", Password: "p", TLS: "starttls"}
	trust := &tls.Config{InsecureSkipVerify: true}
	n := sample(alert.Firing, alert.Resolved)
	n.Alerts[0].Summary = "Überlast\r\nBcc: all@shop.example"
	if err := (mailer{to, trust}).send(t.Context(), shop, n); err != nil {
		t.Fatal(err)
	}
	text := <-s.mails
	m, err := mail.ReadMessage(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if m.Header.Get("Bcc") != "" || m.Header.Get("To") != "ops@shop.example" || !strings.HasPrefix(m.Header.Get("Subject"), "=?utf-8?q?") || m.Header.Get("Message-Id") == "" {
		t.Errorf("head %v", m.Header)
	}
	if said := <-s.talk; !strings.Contains(strings.Join(said, "\n"), "STARTTLS\nEHLO localhost\nAUTH PLAIN ") {
		t.Errorf("said %q", said)
	}
	// A certificate that nobody vouches for, a mailbox that is not there, a server that is gone.
	if err := (mailer{to, nil}).send(t.Context(), shop, n); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Error(err)
	}
	to.To = []string{"nobody@shop.example"}
	if err := (mailer{to, trust}).send(t.Context(), shop, n); !errors.Is(err, errPermanent) {
		t.Error(err)
	}
	s.Close()
	if err := (mailer{to, trust}).send(t.Context(), shop, n); err == nil || errors.Is(err, errPermanent) {
		t.Error(err)
	}
}

// TestQueue: failures are tried again ever more rarely, a full queue drops the oldest, adding never waits.
func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // guards the next two
		var tries []time.Time
		answer := errors.New("not now")
		var told []string
		say := func(err error) {
			mu.Lock()
			defer mu.Unlock()
			answer, tries = err, nil
		}
		tried := func() []time.Time {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(tries)
		}
		q := NewQueue("r", func(context.Context, Site, alert.Notification) error {
			mu.Lock()
			defer mu.Unlock()
			tries = append(tries, time.Now())
			return answer
		}, func() Site { return shop }, func(text string) { told = append(told, text) })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- q.Run(ctx) }()
		began := time.Now()
		n := sample(alert.Firing)
		n.At = began
		q.Add(n)
		<-time.After(time.Hour)
		synctest.Wait()
		if all := tried(); len(all) < 55 || len(all) > 90 || all[1].Sub(all[0]) > 2*time.Second || len(told) != 1 {
			t.Errorf("%d tries in an hour, told %q", len(all), told)
		}
		for range queueMost + 10 {
			q.Add(n)
		}
		if st := q.Status(); st.Waiting != queueMost || st.Lost != 10 || st.Trouble != "not now" || !st.Since.Equal(began) || len(q.Untold()) != queueMost+1 {
			t.Errorf("%+v", st)
		}
		say(nil)
		<-time.After(2 * time.Minute)
		synctest.Wait()
		if st := q.Status(); st.Waiting != 0 || st.Sent != queueMost+1 || st.Trouble != "" || len(told) != 2 {
			t.Errorf("%+v, told %q", st, told)
		}
		// Refused for good: not tried again. Too old: given up.
		say(fmt.Errorf("no: %w", errPermanent))
		q.Add(n)
		<-time.After(time.Minute)
		synctest.Wait()
		if got := len(tried()); got != 1 {
			t.Errorf("%d tries of what is refused", got)
		}
		say(errors.New("not now"))
		n.At = time.Now().Add(-giveUp - time.Second)
		q.Add(n)
		<-time.After(time.Minute)
		synctest.Wait()
		if st := q.Status(); len(tried()) != 1 || st.Lost != 12 {
			t.Errorf("%d tries, %+v", len(tried()), st)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestLongMessagesAreCut(t *testing.T) {
	n := alert.Notification{Status: alert.Firing}
	for range 500 {
		n.Alerts = append(n.Alerts, sample(alert.Firing).Alerts[0])
	}
	if m := newMessage(shop, n); len(m.Alerts) != mostAlerts || m.TruncatedAlerts != 450 {
		t.Errorf("%d alerts, %d left out", len(m.Alerts), m.TruncatedAlerts)
	}
	if b := (mailer{&site.ToEmail{From: "a@b.example", To: []string{"c@d.example"}}, nil}).text(shop, n); !strings.Contains(string(b), "and 400 more") {
		t.Error("the mail does not say how many are left out")
	}
}
