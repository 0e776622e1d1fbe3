package console

import (
	"net/http"
	"strings"
)

// Limits of bodies below /prometheus/: queries of dashboards are long, and senders of samples send many at once.
const (
	prometheusPrefix = "/prometheus/"
	writePath        = prometheusPrefix + "api/v1/write"
	queryLimit       = 1 << 20  // bytes
	sampleLimit      = 16 << 20 // bytes, packed
)

// bodyLimitOf is how many bytes the body of a request for a path may have.
func bodyLimitOf(path string) int64 {
	switch {
	case path == writePath:
		return sampleLimit
	case path == importPath:
		return importLimit
	case strings.HasPrefix(path, prometheusPrefix):
		return queryLimit
	}
	return bodyLimit
}

// monitorRoutes serves the history: by Prometheus' own API, and what keeps it.
func (c *console) monitorRoutes(mux *http.ServeMux, serve func(method, path string, h http.HandlerFunc)) {
	serve("GET", "/api/v1/monitor", func(w http.ResponseWriter, _ *http.Request) {
		if c.deps.Monitor == nil {
			problem(w, http.StatusNotFound, "not_offered", "this node keeps no history")
			return
		}
		answer(w, http.StatusOK, c.deps.Monitor())
	})
	mux.HandleFunc(prometheusPrefix, func(w http.ResponseWriter, r *http.Request) {
		if c.deps.Prometheus == nil {
			problem(w, http.StatusNotFound, "not_offered", "this node keeps no history")
			return
		}
		c.deps.Prometheus.ServeHTTP(w, r)
	})
}
