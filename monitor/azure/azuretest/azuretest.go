// Package azuretest is a receiver of the Logs Ingestion API of Azure Monitor, for tests: it takes what a data collection rule would take and says no as Azure does.
package azuretest

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// bodyMost is how many bytes one request may carry, unpacked.
const bodyMost = 1 << 20

// Receiver answers as a data collection endpoint with one rule. Its fields are set before it is used.
type Receiver struct {
	Rule    string              // immutable id
	Token   string              // that senders must show
	Streams map[string][]string // declared streams and their columns

	mu     sync.Mutex
	rows   map[string][]map[string]any
	fail   []int
	counts int
}

// Fail lets the next requests be answered with these statuses.
func (r *Receiver) Fail(statuses ...int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = append(r.fail, statuses...)
}

// Rows are those that came in a stream, in order.
func (r *Receiver) Rows(stream string) []map[string]any {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.rows[stream])
}

// Requests is how many requests came, refused ones too.
func (r *Receiver) Requests() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts
}

// ServeHTTP implements http.Handler.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	r.counts++
	if len(r.fail) > 0 {
		status := r.fail[0]
		r.fail = r.fail[1:]
		r.mu.Unlock()
		w.Header().Set("Retry-After", "1")
		refuse(w, status, "Throttled", "as the test says")
		return
	}
	r.mu.Unlock()
	rest, is := strings.CutPrefix(q.URL.Path, "/dataCollectionRules/")
	rule, stream, ok := strings.Cut(rest, "/streams/")
	columns, declared := r.Streams[stream]
	switch {
	case !is || !ok:
		refuse(w, http.StatusNotFound, "ResourceNotFound", "there is nothing at "+q.URL.Path)
	case q.Method != http.MethodPost:
		refuse(w, http.StatusMethodNotAllowed, "MethodNotAllowed", q.Method)
	case q.URL.Query().Get("api-version") != "2023-01-01" && q.URL.Query().Get("api-version") != "2021-11-01-preview":
		refuse(w, http.StatusBadRequest, "UnsupportedApiVersion", "api-version is "+q.URL.Query().Get("api-version"))
	case q.Header.Get("Authorization") != "Bearer "+r.Token:
		refuse(w, http.StatusUnauthorized, "InvalidToken", "the token is not known here")
	case rule != r.Rule:
		refuse(w, http.StatusNotFound, "DataCollectionRuleNotFound", "there is no rule "+rule)
	case !declared:
		refuse(w, http.StatusBadRequest, "InvalidStream", "the rule declares no stream "+stream)
	case !strings.HasPrefix(q.Header.Get("Content-Type"), "application/json"):
		refuse(w, http.StatusUnsupportedMediaType, "UnsupportedMediaType", q.Header.Get("Content-Type"))
	default:
		r.take(w, q, stream, columns)
	}
}

// take reads the rows of a request. Columns that the stream does not declare are dropped, as Azure does.
func (r *Receiver) take(w http.ResponseWriter, q *http.Request, stream string, columns []string) {
	body := io.Reader(q.Body)
	switch q.Header.Get("Content-Encoding") {
	case "":
	case "gzip":
		packed, err := gzip.NewReader(q.Body)
		if err != nil {
			refuse(w, http.StatusBadRequest, "InvalidContentEncoding", err.Error())
			return
		}
		body = packed
	default:
		refuse(w, http.StatusBadRequest, "InvalidContentEncoding", q.Header.Get("Content-Encoding"))
		return
	}
	text, err := io.ReadAll(io.LimitReader(body, bodyMost+1))
	if err == nil && len(text) > bodyMost {
		refuse(w, http.StatusRequestEntityTooLarge, "ContentLengthLimitExceeded", fmt.Sprintf("more than %d bytes", bodyMost))
		return
	}
	var rows []map[string]any
	if err == nil {
		err = json.Unmarshal(text, &rows)
	}
	for _, row := range rows {
		at, _ := row["TimeGenerated"].(string)
		if _, bad := time.Parse(time.RFC3339Nano, at); bad != nil && err == nil {
			err = fmt.Errorf("TimeGenerated is %q", at)
		}
		for name := range row {
			if !slices.Contains(columns, name) {
				delete(row, name)
			}
		}
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, "InvalidRequest", err.Error())
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rows == nil {
		r.rows = map[string][]map[string]any{}
	}
	r.rows[stream] = append(r.rows[stream], rows...)
	w.WriteHeader(http.StatusNoContent)
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("x-ms-error-code", code)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{"code": code, "message": message}})
}
