package monitor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/compression"
)

const (
	// ReceiveMax is how many bytes one request of a sender may have. Prometheus sends some hundred KiB.
	ReceiveMax  = 16 << 20
	unpackedMax = 64 << 20
	senders     = 4     // requests taken at once; further ones are told to come again
	wrongMost   = 5     // mistakes that one answer tells
	labelsMost  = 64    // of one series
	textMost    = 16384 // bytes of a label's value: a mistake of a sender must not fill the memory
)

// The kinds of messages by their name in the Content-Type.
const (
	protoV1 = "prometheus.WriteRequest"
	protoV2 = "io.prometheus.write.v2.Request"
)

// received is one request of a sender on its way into the store.
type received struct {
	b                              *batch
	samples, histograms, exemplars int
	wrong                          []string
	wrongs                         int
	failed                         error // the store's fault, not the sender's
}

// write takes samples by remote write, version 1 or 2.
func (a *api) write(w http.ResponseWriter, r *http.Request) {
	s, _, release, err := a.m.hold(r.Context())
	if err != nil {
		busy(w, err.Error())
		return
	}
	defer release()
	if s.store == nil && len(s.remotes) == 0 {
		http.Error(w, "this node asks an existing Prometheus and keeps nothing: write there", http.StatusNotFound)
		return
	}
	select {
	case a.writing <- struct{}{}:
		defer func() { <-a.writing }()
	default:
		busy(w, "as many senders as may write are writing already")
		return
	}
	if p := a.m.deps.Pressed; p != nil && p() {
		a.m.counts.pressed.Add(1)
		busy(w, "this node is short of memory and takes no samples now")
		return
	}
	body, two, code, err := message(r)
	if err != nil {
		http.Error(w, err.Error(), code)
		return
	}
	in := &received{b: s.batch(context.Background(), false)}
	if two {
		err = in.second(s, body)
	} else {
		err = in.first(s, body)
	}
	if err != nil {
		in.b.drop()
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	in.answer(w, a, two)
}

// busy tells a sender to come again.
func busy(w http.ResponseWriter, why string) {
	w.Header().Set("Retry-After", "5")
	http.Error(w, why, http.StatusServiceUnavailable)
}

// message reads the body of a request and says whether it is of version 2.
func message(r *http.Request) (body []byte, two bool, code int, err error) {
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-protobuf" {
		return nil, false, http.StatusUnsupportedMediaType, fmt.Errorf("remote write has the Content-Type application/x-protobuf, not %q", r.Header.Get("Content-Type"))
	}
	switch params["proto"] {
	case "", protoV1:
	case protoV2:
		two = true
	default:
		return nil, false, http.StatusUnsupportedMediaType, fmt.Errorf("the message %q is not known; known are %s and %s", params["proto"], protoV1, protoV2)
	}
	if e := r.Header.Get("Content-Encoding"); e != "" && e != "snappy" {
		return nil, false, http.StatusUnsupportedMediaType, fmt.Errorf("the Content-Encoding %q is not known; remote write has snappy", e)
	}
	packed, err := io.ReadAll(io.LimitReader(r.Body, ReceiveMax+1))
	if err != nil {
		return nil, false, http.StatusBadRequest, fmt.Errorf("the body broke off: %w", err)
	}
	if len(packed) > ReceiveMax || snappyLen(packed) > unpackedMax {
		return nil, false, http.StatusRequestEntityTooLarge, fmt.Errorf("a request may have %d bytes, unpacked %d", ReceiveMax, unpackedMax)
	}
	body, err = compression.Decode(compression.Snappy, packed, compression.NewSyncDecodeBuffer())
	if err != nil {
		return nil, false, http.StatusBadRequest, fmt.Errorf("the body is not snappy: %w", err)
	}
	return body, two, 0, nil
}

// snappyLen is how long a packed body says that it will be: its first number, in the variable form of protobuf.
func snappyLen(b []byte) uint64 {
	n, shift := uint64(0), 0
	for _, c := range b[:min(len(b), 10)] {
		n |= uint64(c&0x7f) << shift
		if shift += 7; c < 0x80 {
			break
		}
	}
	return n
}

// first takes a request of version 1.
func (in *received) first(s *session, body []byte) error {
	var q prompb.WriteRequest
	if err := q.Unmarshal(body); err != nil {
		return fmt.Errorf("the message cannot be read: %w", err)
	}
	b := labels.NewScratchBuilder(0)
	for _, ts := range q.Timeseries {
		ls := ts.ToLabels(&b, nil)
		var list []sample
		for _, x := range ts.Samples {
			list = append(list, sample{t: x.Timestamp, v: x.Value})
		}
		for _, h := range ts.Histograms {
			x := sample{t: h.Timestamp}
			if h.IsFloatHistogram() {
				x.fh = h.ToFloatHistogram()
			} else {
				x.h = h.ToIntHistogram()
			}
			list = append(list, x)
		}
		var es []exemplar.Exemplar
		for _, e := range ts.Exemplars {
			es = append(es, e.ToExemplar(&b, nil))
		}
		in.series(ls, list, es)
	}
	for _, m := range q.Metadata {
		kind := model.MetricType(strings.ToLower(m.Type.String()))
		s.remember(m.MetricFamilyName, metadata.Metadata{Type: kind, Help: m.Help, Unit: m.Unit})
	}
	return nil
}

// second takes a request of version 2.
func (in *received) second(s *session, body []byte) error {
	var q writev2.Request
	if err := q.Unmarshal(body); err != nil {
		return fmt.Errorf("the message cannot be read: %w", err)
	}
	b := labels.NewScratchBuilder(0)
	for _, ts := range q.Timeseries {
		ls, err := ts.ToLabels(&b, q.Symbols)
		if err != nil {
			in.mistake(err.Error())
			continue
		}
		if m, err := ts.ToMetadata(q.Symbols); err == nil && (m.Help != "" || m.Type != model.MetricTypeUnknown) {
			s.remember(familyName(ls.Get(model.MetricNameLabel), m.Type), m)
		}
		var list []sample
		for _, x := range ts.Samples {
			list = append(list, sample{start: x.StartTimestamp, t: x.Timestamp, v: x.Value})
		}
		for _, h := range ts.Histograms {
			x := sample{start: h.StartTimestamp, t: h.Timestamp}
			if h.IsFloatHistogram() {
				x.fh = h.ToFloatHistogram()
			} else {
				x.h = h.ToIntHistogram()
			}
			list = append(list, x)
		}
		var es []exemplar.Exemplar
		for _, e := range ts.Exemplars {
			if one, err := e.ToExemplar(&b, q.Symbols); err == nil {
				es = append(es, one)
			}
		}
		in.series(ls, list, es)
	}
	return nil
}

// series takes the samples of one series. Exemplars go with the last of them.
func (in *received) series(ls labels.Labels, list []sample, es []exemplar.Exemplar) {
	if !in.fits(ls) {
		return
	}
	var ref storage.SeriesRef
	for i, x := range list {
		x.labels, x.ref = ls, ref
		if i == len(list)-1 {
			x.exemplars = es
		}
		ref = in.take(x)
	}
}

// familyName is the metric that a series of a classic histogram or summary belongs to.
func familyName(name string, kind model.MetricType) string {
	if kind != model.MetricTypeHistogram && kind != model.MetricTypeSummary {
		return name
	}
	for _, end := range []string{"_bucket", "_count", "_sum"} {
		if cut, is := strings.CutSuffix(name, end); is {
			return cut
		}
	}
	return name
}

// fits says whether the labels may stand in the store.
func (in *received) fits(ls labels.Labels) bool {
	name, twice := ls.HasDuplicateLabelNames()
	long := false
	ls.Range(func(l labels.Label) { long = long || len(l.Name)+len(l.Value) > textMost })
	switch {
	case !ls.Has(model.MetricNameLabel) || !ls.IsValid(model.UTF8Validation):
		in.mistake("invalid metric name or labels, got " + ls.String())
	case twice:
		in.mistake(fmt.Sprintf("invalid labels for series, labels %s, duplicated label %s", ls, name))
	case long || ls.Len() > labelsMost:
		in.mistake(fmt.Sprintf("a series may have %d labels of %d bytes", labelsMost, textMost))
	case in.b.s.m.own.has(ls):
		in.mistake(fmt.Sprintf("series %s is one of this node's own; another node tells its series apart by a label, as in remote_write.labels", ls))
	default:
		return true
	}
	return false
}

// take adds one sample. What the sender did wrong does not keep the rest out.
func (in *received) take(x sample) storage.SeriesRef {
	ref, err := in.b.add(x)
	switch {
	case err == nil && (x.h != nil || x.fh != nil):
		in.histograms++
		in.exemplars += len(x.exemplars)
		return ref
	case err == nil:
		in.samples++
		in.exemplars += len(x.exemplars)
		return ref
	case errors.Is(err, errBudget):
		in.mistake(err.Error())
	case errors.Is(err, errAhead), errors.Is(err, storage.ErrOutOfOrderSample), errors.Is(err, storage.ErrOutOfBounds), errors.Is(err, storage.ErrTooOldSample),
		errors.Is(err, storage.ErrDuplicateSampleForTimestamp):
		in.mistake(fmt.Sprintf("%v for series %s", err, x.labels))
	case x.h != nil || x.fh != nil:
		in.mistake(err.Error()) // a histogram that is not well formed
	default:
		in.failed = err
	}
	return x.ref
}

func (in *received) mistake(text string) {
	if in.wrongs++; len(in.wrong) < wrongMost {
		in.wrong = append(in.wrong, text)
	}
}

// answer makes the samples count and tells the sender what became of them.
func (in *received) answer(w http.ResponseWriter, a *api, two bool) {
	if err := in.b.commit(); err != nil {
		in.failed = err
	}
	if two {
		h := w.Header()
		h.Set("X-Prometheus-Remote-Write-Samples-Written", strconv.Itoa(in.samples))
		h.Set("X-Prometheus-Remote-Write-Histograms-Written", strconv.Itoa(in.histograms))
		h.Set("X-Prometheus-Remote-Write-Exemplars-Written", strconv.Itoa(in.exemplars))
	}
	switch {
	case in.failed != nil:
		busy(w, "the store could not write: "+in.failed.Error())
		return
	case in.wrongs > 0:
		a.m.counts.receivedBad.Add(uint64(in.wrongs))
		if more := in.wrongs - len(in.wrong); more > 0 {
			in.wrong = append(in.wrong, fmt.Sprintf("and %d more", more))
		}
		http.Error(w, strings.Join(in.wrong, "\n"), http.StatusBadRequest)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
	a.m.counts.received.Add(uint64(in.samples + in.histograms))
}
