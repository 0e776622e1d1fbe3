package monitor

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/teststorage"

	"github.com/even-keel/evenkeel/site"
)

// TestPromQLFiles runs the test files of Prometheus' engine, every evaluation of them as a request to our API.
func TestPromQLFiles(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/prometheus/prometheus").Output()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "promql/promqltest/testdata/*.test"))
	if err != nil || len(files) < 15 {
		t.Fatalf("only %d test files are there, %v", len(files), err)
	}
	asked, passed := 0, 0
	for _, file := range files {
		passed += map[bool]int{true: 1}[t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			promqltest.RunTestWithStorage(t, string(text), testEngine(t, &asked), testStorage)
		})]
	}
	t.Logf("%d of %d files passed with %d requests", passed, len(files), asked)
}

// testEngine is our API with everything switched on that the files try, experiments too.
func testEngine(t *testing.T, asked *int) *overHTTP {
	m := New(&site.Monitor{Query: site.MonitorQuery{Timeout: time.Minute, Samples: 1e7}}, Deps{})
	m.engine.parser = parser.NewParser(promqltest.TestParserOpts)
	m.engine.adjust = func(o *promql.EngineOpts) {
		o.Parser, o.EnableDelayedNameRemoval, o.UseStartTimestamps = m.engine.parser, true, true
	}
	return &overHTTP{t: t, asked: asked, m: m, handler: m.Handler(), direct: m.engine.limited(m.cfg.Load().Query)}
}

// testStorage is one as the engine's own tests use it.
func testStorage(t testing.TB) storage.Storage {
	return teststorage.New(t, func(o *tsdb.Options) {
		o.EnableSTStorage, o.FloatChunkEncoding, o.EnableHistogramSTEncoding = true, chunkenc.EncXOR2, true
	})
}
