package node

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/even-keel/evenkeel/console"
	"github.com/even-keel/evenkeel/site"
)

// Limits of what is remembered of changes to the site: a day of work on it.
const (
	changesKept = 30
	changeLines = 200 // lines of one
	marksOfKind = 20  // marks of one kind of events in one chart
	marksTime   = 2 * time.Second
)

// promQL answers the console's questions from the history.
func (n *Node) promQL(ctx context.Context, q console.Asked) (got console.Answered, err error) {
	if q.Step <= 0 {
		samples, err := n.monitor.Query(ctx, q.Expr, q.To)
		for _, s := range samples {
			got.Series = append(got.Series, console.AnsweredSeries{Labels: s.Labels, Points: []console.AnsweredPoint{{At: s.At, Value: s.Value}}})
		}
		return got, err
	}
	series, err := n.monitor.QueryRange(ctx, q.Expr, q.From, q.To, q.Step)
	for _, s := range series {
		one := console.AnsweredSeries{Labels: s.Labels, Points: make([]console.AnsweredPoint, 0, len(s.Points))}
		for _, p := range s.Points {
			one.Points = append(one.Points, console.AnsweredPoint{At: p.At, Value: p.Value})
		}
		got.Series = append(got.Series, one)
	}
	return got, err
}

// markedKinds are the kinds of events that charts mark: what people did, and what changed for all.
func markedKinds() []string {
	return []string{"reload", "start", "admin", "deploy", "mark", "upgrade", "shed", "switch", "breaker", "alert", "objectives", "load", "experiment"}
}

// marks are the events between two moments that charts mark.
func (n *Node) marks(from, to time.Time) (list []console.Mark) {
	ctx, cancel := context.WithTimeout(context.Background(), marksTime)
	defer cancel()
	for _, kind := range markedKinds() {
		page, err := n.pastEvents(ctx, console.EventFilter{Kind: kind, Since: from, Until: to, Limit: marksOfKind})
		if err != nil {
			return n.latestMarks(from, to)
		}
		for _, e := range page.Events {
			list = append(list, console.Mark{At: e.At, Kind: e.Kind, Text: e.Text})
		}
	}
	return list
}

// latestMarks are those of the events in memory, for when none are kept.
func (n *Node) latestMarks(from, to time.Time) (list []console.Mark) {
	for _, e := range n.events.newest(eventLimit) {
		if slices.Contains(markedKinds(), e.Kind) && !e.At.Before(from) && !e.At.After(to) {
			list = append(list, console.Mark(e))
		}
	}
	return list
}

// siteChanges remembers how the site came to be. Node.mu guards it.
type siteChanges struct {
	since time.Time // when the site in force came into force; zero: with the start
	list  []console.SiteChange
}

// add remembers one reading of the site file: the newest first.
func (c *siteChanges) add(one console.SiteChange) {
	if len(one.Lines) > changeLines {
		one.Lines = append(one.Lines[:changeLines:changeLines], fmt.Sprintf("and %d more lines", len(one.Lines)-changeLines))
	}
	if one.OK {
		c.since = one.At
	}
	c.list = append([]console.SiteChange{one}, c.list...)
	c.list = c.list[:min(len(c.list), changesKept)]
}

// viewConfig is the site in force as the console shows it.
func (n *Node) viewConfig(text bool) console.Config {
	n.mu.Lock()
	s, cfg := n.site, console.Config{Revision: n.revision, Since: n.changed.since, Changes: slices.Clone(n.changed.list)}
	if cfg.Since.IsZero() {
		cfg.Since = n.started
	}
	n.mu.Unlock()
	if !text {
		return cfg
	}
	var b bytes.Buffer
	if err := site.Print(&b, s); err != nil {
		cfg.Site = "# the site cannot be written: " + err.Error()
		return cfg
	}
	cfg.Site = b.String()
	return cfg
}

// probeWords says what a pool's endpoints are asked; empty: nothing.
func probeWords(p *site.Probe) string {
	var what string
	switch {
	case p == nil || p.Off:
		return ""
	case p.HTTP != nil:
		what = p.HTTP.Method + " " + p.HTTP.Path
	case p.TCP != nil:
		what = "a TCP connection"
	case p.TLS != nil:
		what = "a TLS handshake"
	case p.GRPC != nil:
		what = strings.TrimSpace("gRPC health " + p.GRPC.Service)
	case p.Exec != nil:
		what = "a command"
	default:
		what = "a TCP connection"
	}
	return what + " every " + p.Every.String()
}
