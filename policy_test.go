// Package evenkeel_test holds the house rules as tests: who may import whom, how large things get, and what words mean.
package evenkeel_test

import (
	"fmt"
	"go/ast"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/even-keel/evenkeel"

// floors is the house: a package imports packages of lower floors, and its neighbours only by sideways.
var floors = map[string]int{
	"site": 0, "wire": 0, "exchange": 0, "trace": 0, "keep": 0,
	"proxy": 1, "pool": 1, "admit": 1, "contain": 1, "queue": 1, "steer": 1, "vip": 1, "client": 1,
	"probe": 1, "load": 1, "chaos": 1, "slo": 1,
	"quorum": 1, "bus": 1, "monitor": 1,
	"console": 1, "alert": 1, "dashboard": 1,
	"node": 2,
	"cmd":  3, "bench": 3, "script": 3, "e2e": 3,
}

// sideways are the edges between neighbours, each with its reason.
var sideways = map[string]string{
	"exchange→wire":  "an exchange's head is what wire parsed",
	"exchange→site":  "a route carries what the site file says of it",
	"exchange→trace": "an exchange knows its part in a trace",
	"pool→probe":     "a pool asks its endpoints how they are",
	"queue→bus":      "a queue is kept in the bus",
	"client→contain": "the client library's budgets and breakers are those of the gateway",
}

// serve and prove: the prover shares no code with what it proves.
var (
	serve = []string{"proxy", "pool", "admit", "contain", "queue", "steer", "vip", "client"}
	prove = []string{"probe", "load", "chaos", "slo"}
)

// importers names the only packages that may import an engine outside of tests.
var importers = map[string][]string{
	"go.etcd.io/":                              {"quorum"},
	"github.com/nats-io/":                      {"bus"},
	"github.com/prometheus/prometheus/":        {"monitor"},
	"go.opentelemetry.io/":                     {"monitor"},
	"github.com/prometheus/client_golang/":     {"node"},
	"github.com/prometheus/client_model/":      {"monitor", "node"},
	"github.com/prometheus/common/":            {"monitor"},
	"github.com/prometheus/procfs/":            {"monitor"},
	"modernc.org/sqlite":                       {"monitor"},
	"github.com/Azure/azure-sdk-for-go/":       {"monitor"},
	"github.com/miekg/dns":                     {"pool", "probe", "steer"},
	"github.com/corazawaf/":                    {"admit"},
	"github.com/go-jose/":                      {"admit"},
	"github.com/coreos/go-oidc/":               {"console"},
	"golang.org/x/oauth2":                      {"console"},
	"github.com/oschwald/":                     {"admit"},
	"github.com/cilium/ebpf":                   {"vip", "chaos"},
	"github.com/charmbracelet/":                {"console"},
	"google.golang.org/grpc":                   {"client", "monitor"},
	"github.com/cenkalti/backoff":              {"bench"},
	"github.com/failsafe-go/failsafe-go":       {"bench"},
	"go.yaml.in/":                              {"site", "pool", "console", "slo"},
	"github.com/coder/websocket":               nil,
	"github.com/santhosh-tekuri/jsonschema/v6": nil,
	"github.com/rogpeppe/go-internal":          nil,
}

// longFunctions may be longer than functionMax, up to the lines told: straight lines that build a node, which
// splitting would only hide. The list may shrink and never grow.
var longFunctions = map[string]int{}

const (
	functionMax  = 70
	fileMax      = 600
	interfaceMax = 3
)

// rules are the house rules. Each returns what breaks it.
var rules = map[string]func(*house) []string{
	"floors":             ruleFloors,
	"library":            ruleLibrary,
	"single importers":   ruleImporters,
	"names of packages":  rulePackageNames,
	"package sentences":  ruleSentences,
	"function length":    ruleFunctions,
	"file length":        ruleFiles,
	"interfaces":         ruleInterfaces,
	"init functions":     ruleInit,
	"package variables":  ruleVariables,
	"sleeps in tests":    ruleSleeps,
	"skips in tests":     ruleSkips,
	"dependencies":       ruleDependencies,
	"paths in documents": rulePaths,
	"words":              ruleWords,
	"places":             rulePlaces,
}

func TestPolicy(t *testing.T) {
	h, err := readHouse(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	if len(h.sources) < 10 {
		t.Fatalf("only %d source files were found", len(h.sources))
	}
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		t.Run(name, func(t *testing.T) {
			for _, fault := range rules[name](h) {
				t.Error(fault)
			}
		})
	}
}

// ruleFloors: imports go down, sideways only as told, never from the prover to what it proves.
func ruleFloors(h *house) (faults []string) {
	for _, s := range h.sources {
		if s.top == "" {
			continue
		}
		from, known := floors[s.top]
		if !known {
			faults = append(faults, fmt.Sprintf("%s: package folder %s stands on no floor; add it to floors", s.path, s.top))
			continue
		}
		for _, imp := range s.imports {
			rest, ours := strings.CutPrefix(imp, module+"/")
			to, _, _ := strings.Cut(rest, "/")
			if !ours || to == s.top || s.test {
				continue
			}
			if fault := edge(s.top, to, from); fault != "" {
				faults = append(faults, fmt.Sprintf("%s: imports %s: %s", s.path, to, fault))
			}
		}
	}
	return faults
}

// edge says what is wrong with an import from one package folder, which stands on floor, to another.
func edge(from, to string, floor int) string {
	below, known := floors[to]
	switch {
	case !known:
		return "it stands on no floor"
	case slices.Contains(prove, from) && slices.Contains(serve, to):
		return "the prover shares no code with what it proves"
	case below > floor:
		return "it stands on a higher floor"
	case below == floor && floor < 3 && sideways[from+"→"+to] == "":
		return "it is a neighbour; a new sideways edge needs a reason in the list"
	}
	return ""
}

// ruleImporters: one engine, one importer. Tests may use any engine to stand on the other side.
func ruleImporters(h *house) (faults []string) {
	for _, s := range h.sources {
		for _, imp := range s.imports {
			for engine, allowed := range importers {
				if !s.test && strings.HasPrefix(imp+"/", engine) && !slices.Contains(allowed, s.top) {
					faults = append(faults, fmt.Sprintf("%s: imports %s: allowed are tests and %v", s.path, imp, allowed))
				}
			}
		}
	}
	return faults
}

// library is what other programs import. It needs nothing but the standard library and its own kind; its part for gRPC, which is a package of
// its own, needs gRPC too. Of floor 0 it needs trace, which reads traceparent, and shows nothing of it. The gateway does not use it.
const library, libraryGRPC = "client", "client/grpcclient"

func ruleLibrary(h *house) (faults []string) {
	needs := map[string]bool{library: true, libraryGRPC: true}
	for grown := true; grown; {
		grown = false
		for _, s := range h.sources {
			for _, imp := range s.imports {
				dir, ours := strings.CutPrefix(imp, module+"/")
				top, _, _ := strings.Cut(dir, "/")
				switch {
				case s.test:
				case ours && needs[s.dir] && !needs[dir]:
					needs[dir], grown = true, true
				case ours && top == library && !needs[s.dir] && s.top != library && s.top != "bench":
					faults = append(faults, fmt.Sprintf("%s: imports %s, which is for other programs", s.path, imp))
				}
			}
		}
	}
	for _, s := range h.sources {
		for _, imp := range s.imports {
			dir, ours := strings.CutPrefix(imp, module+"/")
			top, _, _ := strings.Cut(dir, "/")
			outside := !ours && strings.Contains(strings.SplitN(imp, "/", 2)[0], ".")
			grpc := s.dir == libraryGRPC && strings.HasPrefix(imp+"/", "google.golang.org/grpc/")
			if !s.test && needs[s.dir] && (outside && !grpc || ours && top != library && top != "contain" && top != "trace") {
				faults = append(faults, fmt.Sprintf("%s: imports %s: other programs import this, so it needs the standard library only", s.path, imp))
			}
		}
	}
	return faults
}

func rulePackageNames(h *house) (faults []string) {
	bad := []string{"util", "utils", "common", "helper", "helpers", "types", "manager", "base", "misc", "shared", "lib"}
	for _, s := range h.sources {
		if slices.Contains(bad, s.file.Name.Name) || slices.Contains(bad, path.Base(s.dir)) {
			faults = append(faults, fmt.Sprintf("%s: package %s is named by no noun that a user would say", s.path, s.file.Name.Name))
		}
	}
	return faults
}

// ruleSentences: every package says once, in one sentence, what it owns.
func ruleSentences(h *house) (faults []string) {
	said := map[string][]string{}
	for _, s := range h.sources {
		if s.test && s.dir != "." {
			continue
		}
		if _, seen := said[s.dir]; !seen {
			said[s.dir] = nil
		}
		if s.file.Doc == nil {
			continue
		}
		said[s.dir] = append(said[s.dir], s.path)
		want := "Package " + s.file.Name.Name + " "
		if s.file.Name.Name == "main" {
			want = "Command " + path.Base(s.dir) + " "
		}
		if doc := s.file.Doc.Text(); !strings.HasPrefix(doc, want) || !strings.Contains(doc+" ", ".\n") {
			faults = append(faults, fmt.Sprintf("%s: does not open with a sentence %q", s.path, want+"….\""))
		}
	}
	for dir, files := range said {
		if len(files) != 1 {
			faults = append(faults, fmt.Sprintf("%s: %d files say what the package owns, want one: %v", dir, len(files), files))
		}
	}
	return faults
}

// ruleFunctions counts a function's lines from func to its brace. Tables in tests are data and do not count.
func ruleFunctions(h *house) (faults []string) {
	needed := map[string]bool{}
	for _, s := range h.sources {
		for _, d := range s.file.Decls {
			f, is := d.(*ast.FuncDecl)
			if !is || f.Body == nil {
				continue
			}
			n, most := h.lines(f), functionMax
			if s.test {
				n -= h.tables(f)
			}
			if allowed := longFunctions[s.path+":"+f.Name.Name]; allowed > 0 {
				most = allowed
				needed[s.path+":"+f.Name.Name] = n > functionMax
			}
			if n > most {
				faults = append(faults, fmt.Sprintf("%s: %s has %d lines, allowed are %d", h.at(f), f.Name.Name, n, most))
			}
		}
	}
	for name := range longFunctions {
		if !needed[name] {
			faults = append(faults, name+": stands in longFunctions and is not long any more; take it out")
		}
		if !strings.HasPrefix(name, "node/") {
			faults = append(faults, name+": only builders of node may be long")
		}
	}
	return faults
}

func ruleFiles(h *house) (faults []string) {
	for _, s := range h.sources {
		if n := strings.Count(s.text, "\n"); n > fileMax {
			faults = append(faults, fmt.Sprintf("%s: has %d lines, allowed are %d", s.path, n, fileMax))
		}
	}
	return faults
}

func ruleInterfaces(h *house) (faults []string) {
	for _, s := range h.sources {
		ast.Inspect(s.file, func(n ast.Node) bool {
			spec, is := n.(*ast.TypeSpec)
			if !is || !spec.Name.IsExported() {
				return true
			}
			if face, is := spec.Type.(*ast.InterfaceType); is && face.Methods.NumFields() > interfaceMax {
				faults = append(faults, fmt.Sprintf("%s: interface %s has %d methods, allowed are %d", h.at(spec), spec.Name, face.Methods.NumFields(), interfaceMax))
			}
			return true
		})
	}
	return faults
}

func ruleInit(h *house) (faults []string) {
	for _, s := range h.sources {
		for _, d := range s.file.Decls {
			if f, is := d.(*ast.FuncDecl); is && f.Recv == nil && f.Name.Name == "init" {
				faults = append(faults, h.at(f)+": init functions run unseen; build in New or in a table")
			}
		}
	}
	return faults
}

// ruleSleeps: tests wait for what they wait for, in fake time or on a condition.
func ruleSleeps(h *house) (faults []string) {
	for _, s := range h.sources {
		ast.Inspect(s.file, func(n ast.Node) bool {
			if sel, is := n.(*ast.SelectorExpr); is && s.test && named(sel, "time", "Sleep") {
				faults = append(faults, h.at(sel)+": time.Sleep in a test; use testing/synctest, a channel or a condition with a deadline")
			}
			return true
		})
	}
	return faults
}

// ruleSkips: who skips says what is then not tested.
func ruleSkips(h *house) (faults []string) {
	for _, s := range h.sources {
		ast.Inspect(s.file, func(n ast.Node) bool {
			call, is := n.(*ast.CallExpr)
			if !is || !s.test {
				return true
			}
			sel, is := call.Fun.(*ast.SelectorExpr)
			if !is || !slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, sel.Sel.Name) {
				return true
			}
			if who, is := sel.X.(*ast.Ident); !is || !slices.Contains([]string{"t", "b", "f", "tb"}, who.Name) {
				return true
			}
			if len(call.Args) == 0 || !strings.Contains(h.textOf(s, call.Args[0]), "not tested") {
				faults = append(faults, h.at(call)+`: skip without saying what is "not tested"`)
			}
			return true
		})
	}
	return faults
}

// ruleDependencies: every module that is used directly stands in docs/dependencies.md with its reason, and no other.
func ruleDependencies(h *house) (faults []string) {
	text, err := fs.ReadFile(h.root, "docs/dependencies.md")
	if err != nil {
		return []string{err.Error()}
	}
	told := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|([^|]*)\\|([^|]*)\\|([^|]*)\\|$").FindAllStringSubmatch(string(text), -1) {
		told[row[1]] = true
		for i, what := range []string{"a reason", "a licence", "who uses it"} {
			if strings.TrimSpace(row[i+2]) == "" {
				faults = append(faults, fmt.Sprintf("docs/dependencies.md: %s has no word on %s", row[1], what))
			}
		}
	}
	used, err := h.modules()
	if err != nil {
		return []string{err.Error()}
	}
	for m, where := range used {
		if !told[m] {
			faults = append(faults, fmt.Sprintf("docs/dependencies.md: %s is missing, it is used by %s", m, where))
		}
	}
	for m := range told {
		if used[m] == "" {
			faults = append(faults, fmt.Sprintf("docs/dependencies.md: %s is used by nothing any more", m))
		}
	}
	return faults
}

// rulePaths: every path that ARCHITECTURE.md and CONTRIBUTING.md name in backticks exists.
func rulePaths(h *house) (faults []string) {
	for _, doc := range []string{"ARCHITECTURE.md", "CONTRIBUTING.md"} {
		text, err := fs.ReadFile(h.root, doc)
		if err != nil {
			faults = append(faults, err.Error())
		}
		for _, quoted := range regexp.MustCompile("`([A-Za-z._][A-Za-z0-9._/-]*)`").FindAllStringSubmatch(string(text), -1) {
			name := quoted[1]
			top, _, deep := strings.Cut(name, "/")
			_, err := fs.Stat(h.root, top)
			isPath := deep && err == nil || strings.HasSuffix(name, "/") || regexp.MustCompile(`^[^A-Z].*/.*\.(go|md|yaml|txt|html|css|js|sh)$|^[A-Za-z_-]+\.(go|md)$`).MatchString(name)
			if _, err := fs.Stat(h.root, strings.TrimSuffix(name, "/")); isPath && err != nil {
				faults = append(faults, fmt.Sprintf("%s: names %s, which is not there", doc, name))
			}
		}
	}
	return faults
}

// ruleWords: one word for one thing. What peers call differently may stand in comments, not in names.
func ruleWords(h *house) (faults []string) {
	bad := regexp.MustCompile(`(?i)middleware|backend|upstream|strategy|whitelist|blacklist|helper`)
	for _, s := range h.sources {
		for name := range declared(s.file) {
			// Upstream is proxy's word for one pool's way to its endpoints.
			if word := bad.FindString(name.Name); word != "" && (s.top != "proxy" && s.top != "node" || !strings.EqualFold(word, "upstream")) {
				faults = append(faults, fmt.Sprintf("%s: %s is named by %q, which is not a word of this house (see CONTRIBUTING.md)", h.at(name), name.Name, word))
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(h.texts)) {
		if word := regexp.MustCompile(`(?i)middleware|whitelist|blacklist`).FindString(h.texts[name]); path.Ext(name) == ".md" && word != "" && name != "CONTRIBUTING.md" {
			faults = append(faults, fmt.Sprintf("%s: has %q, which is not a word of this house (see CONTRIBUTING.md)", name, word))
		}
	}
	return faults
}

// rulePlaces: nothing names a folder that only exists on one machine.
func rulePlaces(h *house) (faults []string) {
	bad := regexp.MustCompile(`(^|[\s"'` + "`" + `(=:])/(work|home|Users)/[a-z]`)
	for _, name := range slices.Sorted(maps.Keys(h.texts)) {
		if at := bad.FindStringIndex(h.texts[name]); at != nil {
			line := 1 + strings.Count(h.texts[name][:at[0]], "\n")
			faults = append(faults, fmt.Sprintf("%s:%d: names a folder of somebody's machine", name, line))
		}
	}
	return faults
}

// ruleVariables: package-level variables are errors, tables and compile-time checks, made in place and
// never assigned again. What changes while evenkeel runs belongs to a value that somebody owns.
func ruleVariables(h *house) (faults []string) {
	vars := map[string]map[string]bool{} // of each package folder
	builders := buildersOf(h)
	for _, s := range h.sources {
		if vars[s.dir] == nil {
			vars[s.dir] = map[string]bool{}
		}
		for _, d := range s.file.Decls {
			g, is := d.(*ast.GenDecl)
			if !is || g.Tok != token.VAR {
				continue
			}
			for _, spec := range g.Specs {
				v := spec.(*ast.ValueSpec)
				for _, name := range v.Names {
					vars[s.dir][name.Name] = name.Name != "_"
				}
				if why := notFixed(s, v, g, builders[s.dir]); why != "" {
					faults = append(faults, fmt.Sprintf("%s: package variable %s %s", h.at(v), v.Names[0].Name, why))
				}
			}
		}
	}
	for _, s := range h.sources {
		for _, at := range assigned(s, vars[s.dir]) {
			faults = append(faults, fmt.Sprintf("%s: package variable %s is assigned to after its declaration", h.at(at), at.Name))
		}
	}
	return faults
}
