package node

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/even-keel/evenkeel/console"
	"github.com/even-keel/evenkeel/site"
)

// The console is told what each reading of the site file changed, or why it was refused, and marks it in charts.
func TestChangesOfTheSiteAreRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, testSite("web", "a=old", "b=old"))
		began := time.Now()
		first := w.viewConfig(true)
		if !strings.Contains(first.Site, "pools:") || len(first.Changes) != 0 || first.Since.After(began) {
			t.Errorf("before any change: %+v", first)
		}
		pass(time.Minute)
		w.next = testSite("web", "a=new", "b=old")
		if err := w.Reload(); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		w.nextErr = errors.New("site.yaml:3:1: no")
		if w.Reload() == nil {
			t.Fatal("a broken file was taken")
		}
		got := w.viewConfig(true)
		if got.Revision == first.Revision || !got.Since.Equal(began.Add(time.Minute)) || len(got.Changes) != 2 {
			t.Fatalf("%+v", got)
		}
		if refused, done := got.Changes[0], got.Changes[1]; refused.OK || refused.Error != "site.yaml:3:1: no" || refused.Revision != got.Revision || !done.OK || done.From != first.Revision ||
			strings.Join(done.Lines, "; ") != "pools.a.method: old → new" {
			t.Errorf("%+v", got.Changes)
		}
		for range 2 * changesKept {
			_ = w.Reload()
		}
		if n := len(w.viewConfig(true).Changes); n != changesKept {
			t.Errorf("%d changes are remembered, want %d", n, changesKept)
		}
		reloads := 0
		for _, m := range w.marks(began.Add(30*time.Second), began.Add(90*time.Second)) {
			if m.Kind == "reload" {
				reloads++
			}
		}
		if reloads != 1 {
			t.Errorf("the first reload is marked %d times", reloads)
		}
	})
}

func TestChangesAreBounded(t *testing.T) {
	var c siteChanges
	one := console.SiteChange{OK: true}
	for i := range 3 * changeLines {
		one.Lines = append(one.Lines, fmt.Sprint("line ", i))
	}
	c.add(one)
	if lines := c.list[0].Lines; len(lines) != changeLines+1 || lines[changeLines] != "and 400 more lines" {
		t.Errorf("%d lines, the last %q", len(lines), lines[len(lines)-1])
	}
}

func TestProbeWords(t *testing.T) {
	every := 5 * time.Second
	for want, p := range map[string]*site.Probe{
		"GET /healthz every 5s":     {HTTP: &site.ProbeHTTP{Method: "GET", Path: "/healthz"}, Every: every},
		"a TCP connection every 5s": {TCP: &site.ProbeTCP{}, Every: every},
		"gRPC health every 5s":      {GRPC: &site.ProbeGRPC{}, Every: every},
		"gRPC health shop every 5s": {GRPC: &site.ProbeGRPC{Service: "shop"}, Every: every},
		"":                          {HTTP: &site.ProbeHTTP{}, Off: true},
	} {
		if got := probeWords(p); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if probeWords(nil) != "" {
		t.Error("no probe has words")
	}
}
