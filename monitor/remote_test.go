package monitor

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/util/compression"

	"github.com/even-keel/evenkeel/site"
)

// write sends a body to a monitor's receiver.
func write(t *testing.T, m *Monitor, raw []byte, proto string) *httptest.ResponseRecorder {
	t.Helper()
	packed, err := compression.Encode(compression.Snappy, raw, compression.NewSyncEncodeBuffer())
	if err != nil {
		t.Fatal(err)
	}
	return writePacked(m, packed, "application/x-protobuf"+proto, "snappy")
}

func writePacked(m *Monitor, body []byte, kind, packing string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, Prefix+"/api/v1/write", bytes.NewReader(body))
	r.Header.Set("Content-Type", kind)
	r.Header.Set("Content-Encoding", packing)
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, r)
	return w
}

func series(t int64, v float64, pairs ...string) prompb.TimeSeries {
	return prompb.TimeSeries{Labels: prompb.FromLabels(labels.FromStrings(pairs...), nil), Samples: []prompb.Sample{{Timestamp: t, Value: v}}}
}

// native is a native histogram with three observations.
func native() *histogram.Histogram {
	return &histogram.Histogram{Count: 3, Sum: 6, Schema: 0, ZeroThreshold: 0.001, PositiveSpans: []histogram.Span{{Offset: 0, Length: 3}}, PositiveBuckets: []int64{1, 0, 0}}
}

func TestTakesRemoteWrite(t *testing.T) {
	r := run(t, settings(nil), nil)
	r.rounds(t, 1)
	now := time.Now()
	ms := now.UnixMilli()
	h := prompb.TimeSeries{Labels: prompb.FromLabels(labels.FromStrings("__name__", "sent_seconds"), nil), Histograms: []prompb.Histogram{prompb.FromIntHistogram(ms, native())}}
	q := prompb.WriteRequest{
		Timeseries: []prompb.TimeSeries{series(ms, 5, "__name__", "sent_total", "a", "b"), h},
		Metadata:   []prompb.MetricMetadata{{Type: prompb.MetricMetadata_COUNTER, MetricFamilyName: "sent_total", Help: "Sent."}},
	}
	raw, _ := q.Marshal()
	if w := write(t, r.Monitor, raw, ""); w.Code != http.StatusNoContent {
		t.Fatalf("version 1 is answered with %d %s", w.Code, w.Body)
	}
	if v := r.value(t, `sent_total{a="b"}`, now); v != 5 {
		t.Errorf("the sample is %v, want 5", v)
	}
	if v := r.value(t, `histogram_count(sent_seconds)`, now); v != 3 {
		t.Errorf("the histogram counts %v, want 3", v)
	}
	if w := write(t, r.Monitor, raw, "; proto=prometheus.WriteRequest"); w.Code != http.StatusNoContent {
		t.Errorf("the same once more is answered with %d %s", w.Code, w.Body)
	}

	table := writev2.NewSymbolTable()
	refs := table.SymbolizeLabels(labels.FromStrings("__name__", "second_total"), nil)
	two := writev2.Request{Timeseries: []writev2.TimeSeries{{
		LabelsRefs: refs, Samples: []writev2.Sample{{Timestamp: ms, Value: 7}},
		Exemplars: []writev2.Exemplar{{LabelsRefs: table.SymbolizeLabels(labels.FromStrings("trace_id", "t1"), nil), Value: 1, Timestamp: ms}},
		Metadata:  writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_COUNTER, HelpRef: table.Symbolize("Second.")},
	}}}
	two.Symbols = table.Symbols()
	raw, _ = two.Marshal()
	w := write(t, r.Monitor, raw, ";proto="+protoV2)
	if w.Code != http.StatusNoContent || w.Header().Get("X-Prometheus-Remote-Write-Samples-Written") != "1" || w.Header().Get("X-Prometheus-Remote-Write-Exemplars-Written") != "1" {
		t.Errorf("version 2 is answered with %d %s %v", w.Code, w.Body, w.Header())
	}
	if v := r.value(t, "second_total", now); v != 7 {
		t.Errorf("the sample is %v, want 7", v)
	}
	if _, body := r.get("/api/v1/metadata", nil); !strings.Contains(body, "Second.") || !strings.Contains(body, "Sent.") {
		t.Errorf("metadata is %s", body)
	}
	if n := r.Status().Received; n != 5 {
		t.Errorf("%d samples were received, want 5", n)
	}
}

func TestRefusesBadRemoteWrite(t *testing.T) {
	r := run(t, settings(nil), nil)
	r.rounds(t, 1)
	now := time.Now()
	ms := now.UnixMilli()
	raw, _ := (&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{
		series(ms, 1, "__name__", "good_total"),
		series(ms, 1, "a", "b"),
		series(ms-int64(24*time.Hour/time.Millisecond), 1, "__name__", "old_total"),
		series(ms+int64(24*time.Hour/time.Millisecond), 1, "__name__", "early_total"),
		series(ms, 1, "__name__", "long_total", "x", strings.Repeat("y", textMost)),
		{Labels: []prompb.Label{{Name: "__name__", Value: "twice"}, {Name: "a", Value: "1"}, {Name: "a", Value: "2"}}, Samples: []prompb.Sample{{Timestamp: ms, Value: 1}}},
	}}).Marshal()
	w := write(t, r.Monitor, raw, "")
	for _, want := range []string{"invalid metric name", "out of bounds for series", "more than 10m0s ahead", "may have 64 labels", "duplicated label a"} {
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), want) {
			t.Errorf("bad samples are answered with %d %s, want 400 %s", w.Code, w.Body, want)
		}
	}
	if v := r.value(t, "good_total", now); v != 1 {
		t.Errorf("the good sample beside them is %v, want 1", v)
	}
	rounds := r.Status().Samples
	until(t, "own figures were kept after a sample of a day ahead", func() bool { return r.Status().Samples > rounds })
	bomb := append([]byte{0xff, 0xff, 0xff, 0xff, 0x0f}, make([]byte, 100)...)
	for _, c := range []struct {
		body          []byte
		kind, packing string
		want          int
	}{
		{nil, "application/json", "snappy", 415},
		{nil, "application/x-protobuf;proto=other", "snappy", 415},
		{nil, "application/x-protobuf", "zstd", 415},
		{[]byte("noise"), "application/x-protobuf", "snappy", 400},
		{bomb, "application/x-protobuf", "snappy", 413},
		{make([]byte, ReceiveMax+1), "application/x-protobuf", "snappy", 413},
		{[]byte{3, 8, 'a', 'b', 'c'}, "application/x-protobuf", "snappy", 400},
	} {
		if w := writePacked(r.Monitor, c.body, c.kind, c.packing); w.Code != c.want {
			t.Errorf("%q packed as %s is answered with %d %s, want %d", c.kind, c.packing, w.Code, w.Body, c.want)
		}
	}
}

// FuzzRemoteWrite: no body makes the receiver panic, or the store unusable.
func FuzzRemoteWrite(f *testing.F) {
	raw, _ := (&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{series(1, 1, "__name__", "a")}}).Marshal()
	f.Add(raw, false)
	table := writev2.NewSymbolTable()
	two := writev2.Request{Timeseries: []writev2.TimeSeries{{LabelsRefs: table.SymbolizeLabels(labels.FromStrings("__name__", "b"), nil), Samples: []writev2.Sample{{Timestamp: 1}}}}}
	two.Symbols = table.Symbols()
	raw, _ = two.Marshal()
	f.Add(raw, true)
	m := New(settings(nil), Deps{})
	s := &session{m: m, cfg: settings(nil), remotes: []*remote{{cfg: &site.RemoteWrite{Queue: 10}}}, names: map[string]metadata.Metadata{}}
	f.Fuzz(func(t *testing.T, raw []byte, second bool) {
		in := &received{b: s.batch(t.Context(), false)}
		if second {
			_ = in.second(s, raw)
		} else {
			_ = in.first(s, raw)
		}
	})
}

// sink takes remote write as a test wants it.
type sink struct {
	mu     sync.Mutex
	status int
	got    []prompb.TimeSeries
	asked  int
	auth   string
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	s.auth = r.Header.Get("Authorization") + r.Header.Get("X-Scope-OrgID")
	if s.status/100 == 2 {
		packed, _ := io.ReadAll(r.Body)
		raw, err := compression.Decode(compression.Snappy, packed, compression.NewSyncDecodeBuffer())
		var q prompb.WriteRequest
		if err == nil {
			err = q.Unmarshal(raw)
		}
		if err != nil {
			http.Error(w, err.Error(), 400)
			return
		}
		s.got = append(s.got, q.Timeseries...)
	}
	w.WriteHeader(s.status)
}

func (s *sink) become(status int) {
	s.mu.Lock()
	s.status = status
	s.mu.Unlock()
}

func TestSendsOn(t *testing.T) {
	place := &sink{status: 503}
	srv := httptest.NewServer(place)
	defer srv.Close()
	cfg := settings(func(m *site.Monitor) {
		m.RemoteWrite = []*site.RemoteWrite{{URL: srv.URL, Token: "t", Headers: map[string]string{"X-Scope-OrgID": "9"}, Labels: map[string]string{"site": "shop", "kind": "theirs"}, Queue: 1000, Timeout: time.Second}}
	})
	r := run(t, cfg, nil)
	until(t, "it failed and said so", func() bool {
		s := r.Status().RemoteWrites
		return len(s) == 1 && strings.Contains(s[0].Why, "503")
	})
	place.become(204)
	until(t, "the sample came, by repetition", func() bool {
		place.mu.Lock()
		defer place.mu.Unlock()
		return len(place.got) > 0
	})
	place.mu.Lock()
	text := fmt.Sprint(place.got)
	if !strings.Contains(text, "test_total") || !strings.Contains(text, `{site shop`) || !strings.Contains(text, `{kind x`) || place.auth != "Bearer t9" {
		t.Errorf("what came is %s with %q", text, place.auth)
	}
	place.mu.Unlock()
	place.become(400)
	until(t, "what is refused for good was dropped", func() bool { return r.Status().RemoteWrites[0].Dropped > 0 })
	if v := r.value(t, "test_total", time.Now()); v != 42 {
		t.Errorf("the own store has %v, want 42", v)
	}
}

func TestQueueDropsTheOldest(t *testing.T) {
	r := &remote{cfg: &site.RemoteWrite{Queue: 3000}, bell: make(chan struct{}, 1)}
	for i := range 5000 {
		r.push([]sample{{t: int64(i)}})
	}
	if s := r.status(); s.Waiting != 3000 || s.Dropped != 2000 {
		t.Fatalf("%d wait and %d were dropped, want 3000 and 2000", s.Waiting, s.Dropped)
	}
	next := int64(2000)
	for list := r.take(); len(list) > 0; list = r.take() {
		for _, x := range list {
			if x.t != next {
				t.Fatalf("sample %d came, want %d", x.t, next)
			}
			next++
		}
	}
	if next != 5000 {
		t.Errorf("the last sample was %d", next-1)
	}
}

func TestHistogramsGoOnAndCome(t *testing.T) {
	receiver := run(t, settings(nil), nil)
	receiver.rounds(t, 1)
	srv := httptest.NewServer(receiver.Handler())
	defer srv.Close()
	cfg := settings(func(m *site.Monitor) {
		m.RemoteWrite = []*site.RemoteWrite{{URL: srv.URL + Prefix + "/api/v1/write", Queue: 1000, Timeout: time.Second, Labels: map[string]string{"from": "sender"}}}
	})
	sender := run(t, cfg, nil)
	sender.rounds(t, 1)
	now := time.Now()
	raw, _ := (&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{Labels: prompb.FromLabels(labels.FromStrings("__name__", "h"), nil), Histograms: []prompb.Histogram{prompb.FromIntHistogram(now.UnixMilli(), native())}}}}).Marshal()
	if w := write(t, sender.Monitor, raw, ""); w.Code != 204 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	for _, expr := range []string{`histogram_count(h{from="sender"}) == 3`, `test_total{from="sender"} == 42`} {
		until(t, expr, func() bool {
			l, err := receiver.Query(t.Context(), expr, time.Now())
			return err == nil && len(l) == 1
		})
	}
	_, body := receiver.get("/api/v1/query", map[string][]string{"query": {`h{from="sender"}`}})
	if !strings.Contains(body, `"buckets":[[0,"0.5","1","1"],[0,"1","2","1"],[0,"2","4","1"]]`) {
		t.Errorf("the histogram is shown as %s", body)
	}
}

// TestReceiverWithoutNativeHistograms: a Prometheus that has them switched off fails whole requests because of them; then they are left out, and
// everything else arrives.
func TestReceiverWithoutNativeHistograms(t *testing.T) {
	var mu sync.Mutex
	refused, got := 0, map[string]int{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _, _, err := message(r)
		var q prompb.WriteRequest
		if err != nil || q.Unmarshal(body) != nil {
			t.Error("a message cannot be read")
		}
		mu.Lock()
		defer mu.Unlock()
		for _, ts := range q.Timeseries {
			if len(ts.Histograms) > 0 {
				refused++
				http.Error(w, noNative, http.StatusInternalServerError)
				return
			}
		}
		for _, ts := range q.Timeseries {
			got[ts.Labels[0].Value] += len(ts.Samples)
		}
	}))
	defer srv.Close()
	cfg := &site.RemoteWrite{URL: srv.URL, Queue: 1000, Timeout: 5 * time.Second}
	r, err := newRemote(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { r.run(ctx) })
	defer wg.Wait()
	defer cancel()
	for round := range 3 {
		named := func(name string) labels.Labels { return labels.FromStrings("__name__", name) }
		r.push([]sample{{labels: named("a"), t: 1, v: 1}, {labels: named("h"), t: 1, h: native()}, {labels: named("b"), t: 1, v: 1}})
		until(t, "the rest arrived", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return got["a"] == round+1 && got["b"] == round+1
		})
	}
	until(t, "all was sent", func() bool { return r.status().Sent == 6 })
	if st := r.status(); refused != 1 || st.Dropped != 0 || st.Why != "" {
		t.Errorf("%d requests were refused, and the status is %+v", refused, st)
	}
}

// TestOwnSeriesAreNotWritten: what looks like a series of this node is refused, and the rest of the request is kept.
func TestOwnSeriesAreNotWritten(t *testing.T) {
	r := run(t, settings(nil), nil)
	r.rounds(t, 1)
	ms := time.Now().UnixMilli()
	for _, c := range []struct {
		pairs []string
		taken bool
	}{
		{[]string{"__name__", "test_total", "instance", "node", "job", "evenkeel", "kind", "x"}, false},
		{[]string{"__name__", "test_total", "instance", "node", "job", "evenkeel", "kind", "not shown yet"}, false},
		{[]string{"__name__", "up", "instance", "node", "job", "evenkeel"}, false},
		{[]string{"__name__", "up", "instance", "node", "job", "host"}, false},
		{[]string{"__name__", "test_total", "instance", "node", "job", "evenkeel", "kind", "x", "site", "other"}, true},
		{[]string{"__name__", "test_total", "instance", "another", "job", "evenkeel", "kind", "x"}, true},
		{[]string{"__name__", "test_total", "instance", "node", "job", "gateway", "kind", "x"}, true},
		{[]string{"__name__", "test_total", "kind", "x"}, true},
	} {
		beside := fmt.Sprintf("beside_%d", ms)
		raw, _ := (&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{series(ms, 1e9, c.pairs...), series(ms, 7, "__name__", beside)}}).Marshal()
		w := write(t, r.Monitor, raw, "")
		if want := map[bool]int{true: 204, false: 400}[c.taken]; w.Code != want || !c.taken && !strings.Contains(w.Body.String(), "this node's own") {
			t.Errorf("%q: %d %s, want %d", c.pairs, w.Code, w.Body, want)
		}
		if v := r.value(t, beside, time.UnixMilli(ms)); v != 7 {
			t.Errorf("what stood beside %q is %v", c.pairs, v)
		}
		ms++
	}
	r.rounds(t, 1)
	if v := r.value(t, `max_over_time(test_total{job="evenkeel",instance="node",site=""}[5m])`, time.Now()); v != 42 {
		t.Errorf("the own series has been %v, want 42", v)
	}
}
