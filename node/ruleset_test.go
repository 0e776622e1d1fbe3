package node

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	crstests "github.com/corazawaf/coraza-coreruleset/v4/tests"
	"github.com/coreruleset/go-ftw/config"
	"github.com/coreruleset/go-ftw/output"
	"github.com/coreruleset/go-ftw/runner"
	"github.com/coreruleset/go-ftw/test"
	"github.com/coreruleset/go-ftw/waflog"

	"github.com/even-keel/evenkeel/site"
)

// ruleSetTests are the regression tests of the OWASP core rule set, which its makers run with go-ftw before each release. They are run
// here against a whole node with an endpoint behind it; go-ftw judges. A short part is always run, all with EVENKEEL_CRS_TESTS=all.
//
// Left out are tests of rules on answers, which evenkeel does not screen. Tests whose request evenkeel itself refuses,
// before any rule could see it, are counted apart: the attack did not get through, and the rule was not asked.
const leastPassed = 0.97

// shortPart are rules from each part of the rule set, for every run of the tests.
var shortPart = []string{"911100", "913100", "920230", "920420", "921110", "922110", "930120", "931100", "932160", "933100", "934100", "941100", "941110", "942100", "942190", "943100", "944100"}

func TestCoreRuleSet(t *testing.T) {
	b := newRuleSetBench(t)
	var count struct{ passed, refused, failed int }
	var failed []string
	for _, file := range b.files(os.Getenv("EVENKEEL_CRS_TESTS") == "all") {
		text, err := fs.ReadFile(crstests.FS, file)
		if err != nil {
			t.Fatal(err)
		}
		all, err := test.GetTestFromYaml(text, path.Base(file))
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		for _, one := range all.Tests {
			single := *all
			single.Tests = single.Tests[:0:0]
			single.Tests = append(single.Tests, one)
			switch reached, ok := b.run(t, &single); {
			case ok:
				count.passed++
			case !reached:
				count.refused++
			default:
				count.failed++
				failed = append(failed, one.IdString())
			}
		}
	}
	rate := float64(count.passed) / float64(count.passed+count.failed)
	t.Logf("%d passed, %d failed, %d refused by evenkeel itself before any rule: %.2f %% passed of those that met the rules", count.passed, count.failed, count.refused, 100*rate)
	t.Logf("failed: %s", strings.Join(failed, " "))
	if rate < leastPassed || count.passed < 100 {
		t.Errorf("%.2f %% of %d tests passed, want %.0f %%", 100*rate, count.passed+count.failed, 100*leastPassed)
	}
}

// ruleSetBench is a node that screens, with an endpoint that writes down which rules were met between the marks that go-ftw sends.
type ruleSetBench struct {
	node *Node
	ctx  *runner.TestRunContext
	log  *os.File

	requests atomic.Int64 // that reached the endpoint, without marks
	mu       sync.Mutex
	hits     map[string]uint64
}

// ruleSetSettings are what the makers of the rule set switch on for its tests, and what is off unless a site asks for it.
const ruleSetSettings = `SecAction "id:9001,phase:1,pass,nolog,setvar:tx.crs_validate_utf8_encoding=1,setvar:tx.arg_name_length=100,setvar:tx.arg_length=400,setvar:tx.max_num_args=255,setvar:tx.total_arg_length=64000,setvar:tx.max_file_size=64100,setvar:tx.combined_file_sizes=65535"
`

const markHeader = "X-CRS-Test"

func newRuleSetBench(t *testing.T) *ruleSetBench {
	b := &ruleSetBench{hits: map[string]uint64{}}
	dir := t.TempDir()
	var err error
	if b.log, err = os.Create(filepath.Join(dir, "rules.log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.log.Close() })
	endpoint := httptest.NewServer(b)
	t.Cleanup(endpoint.Close)
	file, directives := filepath.Join(dir, "site.yaml"), filepath.Join(dir, "settings.conf")
	if err := os.WriteFile(directives, []byte(ruleSetSettings), 0o600); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`
name: rules
admin: {listen: "127.0.0.1:0"}
listeners: {web: {listen: "127.0.0.1:0", protocol: http, limits: {header_bytes: 64KiB, headers: 200}}}
pools: {all: {endpoints: [%q]}}
routes: [{name: all, pool: all, screen: {mode: detect, paranoia: 4, anomaly: 1, body_bytes: 256KiB, cheap_checks: false}}]
screening: {log: false, directives: [%q]}
rules: [{name: marks, headers: {%s: ".*"}, action: allow}]
`, strings.TrimPrefix(endpoint.URL, "http://"), directives, markHeader)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := site.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	b.node, err = New(Options{Site: s, Log: slog.New(slog.DiscardHandler), Ready: func() { close(ready) }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.node.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		b.node.Abort()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	b.prepare(t)
	return b
}

// prepare sets go-ftw up to send everything to the node.
func (b *ruleSetBench) prepare(t *testing.T) {
	cfg, err := config.NewConfigFromString("---\nlogfile: " + b.log.Name() + "\n")
	if err != nil {
		t.Fatal(err)
	}
	address := b.node.front.Addr("web").String()
	host, portText, _ := strings.Cut(address, ":")
	port := 0
	if _, err := fmt.Sscan(portText, &port); err != nil {
		t.Fatal(err)
	}
	cfg.LogMarkerHeaderName, cfg.RunMode = markHeader, config.DefaultRunMode
	cfg.MaxMarkerRetries, cfg.MaxMarkerLogLines = 3, 500
	cfg.TestOverride.Overrides.DestAddr, cfg.TestOverride.Overrides.Port = &host, &port
	b.ctx, err = runner.Run(cfg, nil, &runner.RunnerConfig{ConnectTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, ShowOnlyFailed: true}, output.NewOutput(string(output.Quiet), os.Stderr))
	if err != nil {
		t.Fatal(err)
	}
	if b.ctx.LogLines, err = waflog.NewFTWLogLines(cfg); err != nil { // Run closed its own
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.ctx.LogLines.Cleanup() })
}

// files are the test files, without those of rules on answers.
func (b *ruleSetBench) files(all bool) (out []string) {
	_ = fs.WalkDir(crstests.FS, ".", func(name string, d fs.DirEntry, err error) error {
		rule := strings.TrimSuffix(path.Base(name), ".yaml")
		if err == nil && !d.IsDir() && strings.HasPrefix(name, "REQUEST-") && (all || slices.Contains(shortPart, rule)) {
			out = append(out, name)
		}
		return err
	})
	return out
}

// run runs one test. reached: the endpoint saw its request.
func (b *ruleSetBench) run(t *testing.T, one *test.FTWTest) (reached, ok bool) {
	before := b.requests.Load()
	err := runner.RunTest(b.ctx, one)
	if err != nil {
		t.Logf("%s: %v", one.Tests[0].IdString(), err)
	}
	return b.requests.Load() > before, err == nil && b.ctx.Result == runner.Success
}

// ServeHTTP is the endpoint. A mark is written behind the rules that were met since the last.
func (b *ruleSetBench) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	mark := r.Header.Get(markHeader)
	if mark == "" {
		b.requests.Add(1)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, h := range b.node.screen.Status().RuleHits {
		if h.Hits > b.hits[h.Rule] && h.Rule != "marks" {
			fmt.Fprintf(b.log, "[id \"%s\"]\n", h.Rule)
		}
		b.hits[h.Rule] = h.Hits
	}
	fmt.Fprintf(b.log, "%s: %s\n", markHeader, mark)
}
