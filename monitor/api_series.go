package monitor

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/timestamp"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
)

// found is what the questions for names and series have in common.
type found struct {
	limit int
	span  [2]int64 // milliseconds
	sets  [][]*labels.Matcher
	q     storage.Querier
	hints *storage.LabelHints
}

// find reads the parameters and opens the range that they name.
func (a *api) find(s *session, r *http.Request) (found, *apiError) {
	f := found{}
	var bad *apiError
	if f.limit, bad = limitOf(r.Form); bad != nil {
		return f, bad
	}
	from, to, bad := span(r.Form)
	if bad != nil {
		return f, bad
	}
	var err error
	if f.sets, err = a.selectors(r.Form); err != nil {
		return f, badParameter("match[]", err)
	}
	if f.limit > 0 {
		f.hints = &storage.LabelHints{Limit: f.limit + 1} // one more shows that there are more
	}
	f.span = [2]int64{timestamp.FromTime(from), timestamp.FromTime(to)}
	if f.q, err = s.q.Querier(f.span[0], f.span[1]); err != nil {
		return f, failedQuery(err)
	}
	return f, nil
}

// set is a selector; none selects all.
func (f found) set(i int) []*labels.Matcher {
	if i < len(f.sets) {
		return f.sets[i]
	}
	return nil
}

// labels are the names of labels.
func (a *api) labels(s *session, r *http.Request) (answer, *apiError) {
	f, bad := a.find(s, r)
	if bad != nil {
		return answer{}, bad
	}
	defer f.q.Close()
	return collect(len(f.sets), f.limit, func(i int) ([]string, annotations.Annotations, error) {
		return f.q.LabelNames(r.Context(), f.hints, f.set(i)...)
	})
}

// values are the values of one label.
func (a *api) values(s *session, r *http.Request) (answer, *apiError) {
	name := r.PathValue("name")
	if strings.HasPrefix(name, "U__") {
		name = model.UnescapeName(name, model.ValueEncodingEscaping)
	}
	if !model.UTF8Validation.IsValidLabelName(name) {
		return answer{}, &apiError{kindBadData, fmt.Errorf("invalid label name: %q", name)}
	}
	f, bad := a.find(s, r)
	if bad != nil {
		return answer{}, bad
	}
	defer f.q.Close()
	return collect(len(f.sets), f.limit, func(i int) ([]string, annotations.Annotations, error) {
		return f.q.LabelValues(r.Context(), name, f.hints, f.set(i)...)
	})
}

// series are the label sets that selectors find.
func (a *api) series(s *session, r *http.Request) (answer, *apiError) {
	if len(r.Form["match[]"]) == 0 {
		return answer{}, &apiError{kindBadData, errors.New("no match[] parameter provided")}
	}
	f, bad := a.find(s, r)
	if bad != nil {
		return answer{}, bad
	}
	defer f.q.Close()
	hints := &storage.SelectHints{Start: f.span[0], End: f.span[1], Func: "series"} // no samples are read
	if f.limit > 0 {
		hints.Limit = f.limit + 1
	}
	var sets []storage.SeriesSet
	for i := range f.sets {
		sets = append(sets, f.q.Select(r.Context(), len(f.sets) > 1, hints, f.sets[i]...))
	}
	set := sets[0]
	if len(sets) > 1 {
		set = storage.NewMergeSeriesSet(sets, 0, storage.ChainedSeriesMerge)
	}
	b, n := []byte{'['}, 0
	notes := annotations.Annotations{}
	for set.Next() {
		if err := r.Context().Err(); err != nil {
			return answer{}, &apiError{kindCanceled, err}
		}
		if f.limit > 0 && n == f.limit {
			notes.Add(errTruncated)
			break
		}
		b = appendLabels(comma(b, n), set.At().Labels())
		n++
	}
	if err := set.Err(); err != nil {
		return answer{}, failedQuery(err)
	}
	notes.Merge(set.Warnings())
	return answer{data: json.RawMessage(append(b, ']')), notes: notes}, nil
}
