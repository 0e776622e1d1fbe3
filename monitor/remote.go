package monitor

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/util/compression"

	"github.com/even-keel/evenkeel/site"
)

const (
	sendMost    = 2000 // samples of one request, as Prometheus sends by default
	backoffLow  = 30 * time.Millisecond
	backoffHigh = 30 * time.Second
	answerShort = 4 << 10 // bytes of an answer that are read for a message
)

// noNative is what a Prometheus answers, with a 500 and to the whole request, while native histograms are not switched on there: one of them would
// hold up everything else for ever.
const noNative = "native histograms are disabled"

// remote is one place that samples are sent on to. Its queue is bounded: what does not fit pushes the oldest out.
type remote struct {
	cfg    *site.RemoteWrite
	client *http.Client
	log    *slog.Logger
	added  labels.Labels
	bell   chan struct{} // has one place: there is something to send
	plain  bool          // it takes no native histograms; of the goroutine that sends

	mu      sync.Mutex // guards what follows
	ring    []sample
	first   int
	waiting int
	sent    uint64
	dropped uint64
	why     string
}

func newRemote(cfg *site.RemoteWrite, log *slog.Logger) (*remote, error) {
	transport, err := transportFor(cfg.CA)
	if err != nil {
		return nil, fmt.Errorf("remote write to %s: %w", cfg.URL, err)
	}
	return &remote{
		cfg: cfg, log: log, client: &http.Client{Transport: transport, Timeout: cfg.Timeout, CheckRedirect: stay},
		added: labels.FromMap(cfg.Labels), bell: make(chan struct{}, 1),
	}, nil
}

// stay follows no redirect: it would show a token to another place.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// transportFor is how a place is reached that has its own authorities, or the system's when ca is empty.
func transportFor(ca string) (*http.Transport, error) {
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment, MaxIdleConns: 4, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute,
		TLSHandshakeTimeout: 10 * time.Second, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true,
	}
	if ca == "" {
		return t, nil
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, fmt.Errorf("authorities cannot be read: %w", err)
	}
	t.TLSClientConfig.RootCAs = x509.NewCertPool()
	if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate was found in %s", ca)
	}
	return t, nil
}

// push queues samples. It never waits.
func (r *remote) push(list []sample) {
	r.mu.Lock()
	for _, x := range list {
		if r.waiting == len(r.ring) && len(r.ring) < r.cfg.Queue {
			r.grow()
		}
		if r.waiting == len(r.ring) {
			r.ring[r.first] = x
			r.first = (r.first + 1) % len(r.ring)
			r.dropped++
			continue
		}
		r.ring[(r.first+r.waiting)%len(r.ring)] = x
		r.waiting++
	}
	r.mu.Unlock()
	select {
	case r.bell <- struct{}{}:
	default:
	}
}

// grow makes the ring larger, up to its bound: a place that answers needs little.
func (r *remote) grow() {
	larger := make([]sample, min(max(2*len(r.ring), sendMost), r.cfg.Queue))
	for i := range r.waiting {
		larger[i] = r.ring[(r.first+i)%len(r.ring)]
	}
	r.ring, r.first = larger, 0
}

// take takes the oldest samples out of the queue.
func (r *remote) take() []sample {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]sample, min(r.waiting, sendMost))
	for i := range out {
		at := (r.first + i) % len(r.ring)
		out[i], r.ring[at] = r.ring[at], sample{}
	}
	if len(r.ring) > 0 {
		r.first = (r.first + len(out)) % len(r.ring)
	}
	r.waiting -= len(out)
	return out
}

// run sends until ctx ends, and then once more what waits.
func (r *remote) run(ctx context.Context) {
	for {
		select {
		case <-r.bell:
		case <-ctx.Done():
			r.farewell()
			return
		}
		for list := r.take(); len(list) > 0; list = r.take() {
			if !r.deliver(ctx, list) {
				r.farewell()
				return
			}
		}
	}
}

// farewell sends what waits, once and not long: the node stops.
func (r *remote) farewell() {
	ctx, cancel := context.WithTimeout(context.Background(), min(r.cfg.Timeout, 2*time.Second))
	defer cancel()
	for list := r.take(); len(list) > 0 && ctx.Err() == nil; list = r.take() {
		list = r.takes(list)
		if again, err := r.send(ctx, list); err != nil || again > 0 {
			r.lost(len(list), err)
			return
		}
	}
}

// deliver sends one request until the place has it, or refuses it for good, and reports whether ctx goes on.
func (r *remote) deliver(ctx context.Context, list []sample) bool {
	for wait := backoffLow; ; wait = min(2*wait, backoffHigh) {
		list = r.takes(list)
		again, err := r.send(ctx, list)
		switch {
		case ctx.Err() != nil:
			r.lost(len(list), ctx.Err())
			return false
		case err == nil:
			return true
		case again < 0:
			r.lost(len(list), err)
			return true
		}
		r.note(err)
		timer := time.NewTimer(max(wait, again))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			r.lost(len(list), ctx.Err())
			return false
		}
	}
}

// takes is what the place takes of the list, which is used for it.
func (r *remote) takes(list []sample) []sample {
	if !r.plain {
		return list
	}
	return slices.DeleteFunc(list, func(x sample) bool { return x.h != nil || x.fh != nil })
}

// send makes one request. again below zero: it makes no sense to try once more.
func (r *remote) send(ctx context.Context, list []sample) (again time.Duration, err error) {
	body, err := r.request(list)
	if err != nil {
		return -1, err
	}
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, r.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return -1, err
	}
	for name, value := range r.cfg.Headers {
		q.Header.Set(name, value)
	}
	q.Header.Set("Content-Type", "application/x-protobuf")
	q.Header.Set("Content-Encoding", "snappy")
	q.Header.Set("User-Agent", "evenkeel")
	q.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	switch {
	case r.cfg.Token != "":
		q.Header.Set("Authorization", "Bearer "+string(r.cfg.Token))
	case r.cfg.User != "":
		q.SetBasicAuth(r.cfg.User, string(r.cfg.Pass))
	}
	a, err := r.client.Do(q)
	if err != nil {
		return 0, err
	}
	defer a.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(a.Body, answerShort))
	switch {
	case a.StatusCode/100 == 2:
		r.mu.Lock()
		r.sent += uint64(len(list))
		r.why = ""
		r.mu.Unlock()
		return 0, nil
	case !r.plain && bytes.Contains(said, []byte(noNative)):
		r.plain = true
		return 0, fmt.Errorf("it answers %s: %s; from now on they are left out", a.Status, bytes.TrimSpace(said))
	case a.StatusCode/100 == 5 || a.StatusCode == http.StatusTooManyRequests:
		seconds, _ := strconv.Atoi(a.Header.Get("Retry-After"))
		return min(time.Duration(seconds)*time.Second, backoffHigh), fmt.Errorf("it answers %s: %s", a.Status, bytes.TrimSpace(said))
	}
	return -1, fmt.Errorf("it refuses with %s: %s", a.Status, bytes.TrimSpace(said))
}

// request makes the body: samples of one series stand together.
func (r *remote) request(list []sample) ([]byte, error) {
	w := prompb.WriteRequest{Timeseries: make([]prompb.TimeSeries, 0, len(list))}
	for _, x := range list {
		ts := prompb.TimeSeries{Labels: prompb.FromLabels(r.label(x.labels), nil)}
		switch {
		case x.h != nil:
			ts.Histograms = []prompb.Histogram{prompb.FromIntHistogram(x.t, x.h)}
		case x.fh != nil:
			ts.Histograms = []prompb.Histogram{prompb.FromFloatHistogram(x.t, x.fh)}
		default:
			ts.Samples = []prompb.Sample{{Value: x.v, Timestamp: x.t}}
		}
		for _, e := range x.exemplars {
			ts.Exemplars = append(ts.Exemplars, exemplarOf(e))
		}
		w.Timeseries = append(w.Timeseries, ts)
	}
	raw, err := w.Marshal()
	if err != nil {
		return nil, fmt.Errorf("samples cannot be written down: %w", err)
	}
	return compression.Encode(compression.Snappy, raw, compression.NewSyncEncodeBuffer())
}

func exemplarOf(e exemplar.Exemplar) prompb.Exemplar {
	return prompb.Exemplar{Labels: prompb.FromLabels(e.Labels, nil), Value: e.Value, Timestamp: e.Ts}
}

// label adds the labels of the settings to those that a series lacks.
func (r *remote) label(ls labels.Labels) labels.Labels {
	if r.added.IsEmpty() {
		return ls
	}
	b := labels.NewBuilder(ls)
	r.added.Range(func(l labels.Label) {
		if !ls.Has(l.Name) {
			b.Set(l.Name, l.Value)
		}
	})
	return b.Labels()
}

// lost counts samples that never arrive.
func (r *remote) lost(n int, err error) {
	r.mu.Lock()
	r.dropped += uint64(n)
	r.mu.Unlock()
	r.note(err)
}

// note keeps why the last request failed, and logs it when it is news.
func (r *remote) note(err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	r.mu.Lock()
	news := r.why != err.Error()
	r.why = err.Error()
	r.mu.Unlock()
	if news {
		r.log.Warn("samples cannot be sent on", "to", r.cfg.URL, "err", err)
	}
}

func (r *remote) status() RemoteStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	return RemoteStatus{URL: r.cfg.URL, Waiting: r.waiting, Sent: r.sent, Dropped: r.dropped, Why: r.why}
}
