package script_test

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/bench/machine"
)

// notRun are the commands of documents that this test does not run. Each is marked there by a comment that says why:
//
//	<!-- not run by its test: COMMAND: REASON -->
//
// The list may shrink and never grow.
var notRun = []string{"README.md: make test"}

// docSite is the site that commands of documents find running, unless their document shows another one. It is that of docs/api.md.
const docSite = `
admin: {listen: "127.0.0.1:7600"}
listeners: {web: {listen: "127.0.0.1:8080"}}
pools: {shop: {endpoints: ["127.0.0.1:9000", "127.0.0.1:9001"]}}
`

// block is one fenced block of a document.
type block struct {
	doc, lang, text string
	line            int
	site            string // the last whole site that was shown before
	answer          string // JSON that is shown right behind
}

// documents reads all blocks, and the commands that are marked as not run.
func documents(t *testing.T) (blocks []*block, marked []string) {
	t.Helper()
	names, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	fence := regexp.MustCompile("(?ms)^ *```([a-z]*)\n(.*?)^ *```$")
	mark := regexp.MustCompile(`<!-- not run by its test: ([^:]+): [^>]+ -->`)
	for _, name := range append(names, "../README.md", "../CONTRIBUTING.md") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		doc := filepath.Base(name)
		for _, m := range mark.FindAllStringSubmatch(string(text), -1) {
			marked = append(marked, doc+": "+m[1])
		}
		site := docSite
		var last *block
		for _, at := range fence.FindAllSubmatchIndex(text, -1) {
			b := &block{doc: doc, lang: string(text[at[2]:at[3]]), text: string(text[at[4]:at[5]]), line: 1 + bytes.Count(text[:at[0]], []byte("\n")), site: site}
			if b.lang == "yaml" && strings.Contains(b.text, "pools:") && strings.Contains(b.text, "listeners:") {
				site = b.text
			}
			if b.lang == "json" && last != nil && last.lang == "sh" {
				last.answer = b.text
			}
			blocks, last = append(blocks, b), b
		}
	}
	return blocks, marked
}

// TestDocuments runs every command of README, CONTRIBUTING and docs, and checks every site that they show.
func TestDocuments(t *testing.T) {
	blocks, marked := documents(t)
	slices.Sort(marked)
	if !slices.Equal(marked, notRun) {
		t.Errorf("marked as not run are %q, allowed are %q", marked, notRun)
	}
	ran := 0
	for _, b := range blocks {
		t.Run(fmt.Sprintf("%s:%d", b.doc, b.line), func(t *testing.T) {
			switch b.lang {
			case "sh":
				ran += newDesk(t, b).work()
			case "yaml":
				newDesk(t, b).check()
			case "":
				if b.doc != "ARCHITECTURE.md" && strings.Contains(b.text, "evenkeel run") {
					t.Error("commands stand in a block that is not marked as sh, and so are not run")
				}
			}
		})
	}
	if ran < 20 {
		t.Errorf("only %d commands were found", ran)
	}
}

// desk is where the commands of one block are run: a folder with what the documents speak of, services at the addresses that they
// name, and free ports for those that evenkeel takes.
type desk struct {
	t       *testing.T
	b       *block
	dir     string
	real    *strings.Replacer // addresses of the document to those of this test
	shown   *strings.Replacer // and back
	web     string
	admin   string
	node    *exec.Cmd
	gone    chan error
	talk    *locked
	answers string // standard output of the last command
}

// locked is a buffer that a process writes while the test reads.
type locked struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func newDesk(t *testing.T, b *block) *desk {
	t.Helper()
	d := &desk{t: t, b: b, dir: t.TempDir(), web: unused(t), admin: unused(t), talk: new(locked)}
	there := []string{"127.0.0.1:7600", d.admin, "0.0.0.0:7600", d.admin, "127.0.0.1:8080", d.web, " :8080", " " + d.web}
	for _, address := range []string{"127.0.0.1:9000", "127.0.0.1:9001", "127.0.0.1:3000", "10.0.0.1:3000", "10.0.0.2:3000"} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "the service") }))
		t.Cleanup(s.Close)
		there = append(there, address, s.Listener.Addr().String())
	}
	var back []string
	for i := 0; i < len(there); i += 2 {
		back = append(back, there[i+1], there[i])
	}
	d.real, d.shown = strings.NewReplacer(there...), strings.NewReplacer(back...)
	d.write("site.yaml", d.real.Replace(b.site))
	d.write("report.xml", `<testsuite name="api"><testcase classname="cart" name="is shown" time="0.2"/></testsuite>`)
	d.certificates("admin.pem", "admin.key")
	t.Cleanup(d.stop)
	return d
}

func (d *desk) write(name, text string) {
	if err := os.WriteFile(filepath.Join(d.dir, name), []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// certificates writes a pair that is taken for one.
func (d *desk) certificates(cert, key string) {
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	defer s.Close()
	pair := s.TLS.Certificates[0]
	d.write(cert, pemOf("CERTIFICATE", pair.Certificate[0]))
	d.write(key, pemOf("PRIVATE KEY", keyOf(d.t, pair.PrivateKey)))
}

// unused is a free address.
func unused(t *testing.T) string {
	address, err := new(machine.Ports).FreeAddress("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// check lets evenkeel check a site. What is only part of one is completed: with a listener and a pool, which come from the
// included pools.yaml when the block includes that.
func (d *desk) check() {
	const web, pool = "listeners: {web: {listen: \":8080\"}}\n", "pools: {shop: {endpoints: [\"10.0.0.1:8000\"]}}\n"
	text := d.b.text
	if !strings.Contains(text, "listeners:") {
		text += web
	}
	switch {
	case strings.Contains(text, "include:"):
		d.write("pools.yaml", pool)
		_ = os.Mkdir(filepath.Join(d.dir, "conf.d"), 0o700)
	case !strings.Contains(text, "pools:"):
		text += pool
	}
	d.write("shown.yaml", text)
	if out, err := d.command("evenkeel check shown.yaml").CombinedOutput(); err != nil {
		d.t.Errorf("evenkeel check: %v\n%s", err, out)
	}
}

// command is a shell that runs one line, in the folder of the repository if it is for that.
func (d *desk) command(line string) *exec.Cmd {
	c := exec.Command("sh", "-c", "exec "+line)
	c.Dir = d.dir
	if strings.HasPrefix(line, "go run ") {
		c.Dir = ".."
	}
	c.Env = append(os.Environ(), "EVENKEEL_ADMIN="+d.admin, "TOKEN=a-secret-word", "EVENKEEL_ADMIN_TOKEN=a-secret-word", "EVENKEEL_TOKEN=a-secret-word", "NO_COLOR=1",
		"GRAFANA_TOKEN=looks-at-figures-all-day", "DEPLOY_TOKEN=changes-much-every-day", "AGENT_TOKEN=writes-samples-and-no-more", "OIDC_SECRET=pairs-of-oars")
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return c
}

// work runs the commands of a block, one per line, and returns how many it were.
func (d *desk) work() (ran int) {
	serves := regexp.MustCompile(`evenkeel (run|demo)\b`)
	if !serves.MatchString(d.b.text) {
		if strings.Contains(d.b.text, "$TOKEN") {
			d.write("site.yaml", strings.Replace(d.real.Replace(d.b.site), `admin: {`, `admin: {token: "${TOKEN}", `, 1))
		}
		d.serve("evenkeel run -f site.yaml")
	}
	for line := range strings.Lines(d.b.text) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), " #")
		if line = strings.TrimSpace(line); line == "" || slices.Contains(notRun, d.b.doc+": "+line) {
			continue
		}
		ran++
		line = d.real.Replace(line)
		switch {
		case strings.HasSuffix(line, "evenkeel demo"):
			if out := d.run(line + " --for 6s"); !strings.Contains(out, " 0 failed") {
				d.t.Errorf("%s: says\n%s", line, out)
			}
		case serves.MatchString(line):
			d.serve(line)
		case strings.HasPrefix(line, "evenkeel top") && !strings.Contains(line, "--once"):
			d.watch(line)
		default:
			d.answers = d.run(line)
		}
	}
	if d.b.answer != "" && !sameJSON(d.t, d.shown.Replace(d.answers), d.b.answer) {
		d.t.Errorf("the answer is\n%s\nand the document shows\n%s", d.answers, d.b.answer)
	}
	return ran
}

// run runs a command that ends by itself and must succeed.
func (d *desk) run(line string) string {
	d.t.Helper()
	c := d.command(line)
	var out, talk bytes.Buffer
	c.Stdout, c.Stderr = &out, &talk
	if err := c.Start(); err != nil {
		d.t.Fatal(err)
	}
	end := time.AfterFunc(3*patience, func() { _ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) })
	defer end.Stop()
	if err := c.Wait(); err != nil && !strings.Contains(line, "| head") {
		d.t.Errorf("%s: %v\n%s%s", line, err, out.String(), talk.String())
	}
	if out.Len() == 0 && !strings.Contains(line, "check") {
		d.t.Errorf("%s: says nothing\n%s", line, talk.String())
	}
	if strings.Contains(out.String(), "about:blank") && d.b.answer == "" {
		d.t.Errorf("%s: was refused:\n%s", line, out.String())
	}
	return out.String()
}

// serve starts evenkeel, in place of one that runs, and waits until it serves and is ready.
func (d *desk) serve(line string) {
	d.t.Helper()
	d.stop()
	if !strings.Contains(line, "--listen") && strings.Contains(line, "--to") {
		line += " --listen " + d.web
	}
	if !strings.Contains(line, "--admin") {
		line += " --admin " + d.admin
	}
	d.node, d.gone = d.command(line), make(chan error, 1)
	d.node.Stderr = d.talk
	if err := d.node.Start(); err != nil {
		d.t.Fatal(err)
	}
	go func(c *exec.Cmd, gone chan error) { gone <- c.Wait() }(d.node, d.gone)
	d.until(line+" serves", func() bool {
		return got("http://"+d.web+"/") == "the service\n" && got("http://"+d.admin+"/readyz") != ""
	})
}

// stop ends what serve started.
func (d *desk) stop() {
	if d.node == nil {
		return
	}
	_ = syscall.Kill(-d.node.Process.Pid, syscall.SIGTERM)
	select {
	case err := <-d.gone:
		if err != nil && d.node.Dir != ".." { // go run ends with the signal itself
			d.t.Errorf("evenkeel ended with %v:\n%s", err, d.talk)
		}
	case <-time.After(2 * patience):
		_ = syscall.Kill(-d.node.Process.Pid, syscall.SIGKILL)
		d.t.Errorf("evenkeel does not end:\n%s", d.talk)
	}
	d.node = nil
}

// watch starts a command that shows something until it is ended.
func (d *desk) watch(line string) {
	d.t.Helper()
	c, out := d.command(line), new(locked)
	c.Stdout, c.Stderr = out, out
	if err := c.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.until(line+" shows the pool", func() bool { return strings.Contains(out.String(), "shop") })
	_ = syscall.Kill(-c.Process.Pid, syscall.SIGTERM)
	_ = c.Wait()
}

func (d *desk) until(what string, holds func() bool) {
	d.t.Helper()
	end, tick := time.After(3*patience), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case err := <-d.gone:
			d.t.Fatalf("%s: it ended, %v:\n%s", what, err, d.talk)
		case <-end:
			d.t.Fatalf("%s: not so:\n%s", what, d.talk)
		}
	}
}

// got is the body of a 200, empty for everything else.
func got(url string) string {
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		return ""
	}
	return string(text)
}

func sameJSON(t *testing.T, a, b string) bool {
	t.Helper()
	var x, y any
	if err := json.Unmarshal([]byte(a), &x); err != nil {
		t.Errorf("%v:\n%s", err, a)
	}
	if err := json.Unmarshal([]byte(b), &y); err != nil {
		t.Errorf("%v:\n%s", err, b)
	}
	return fmt.Sprint(x) == fmt.Sprint(y)
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func keyOf(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
