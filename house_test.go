package evenkeel_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"iter"
	"os"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf8"
)

// house is the tree that the rules look at.
type house struct {
	root    fs.FS
	fset    *token.FileSet
	sources []*source
	texts   map[string]string // every file of text, by path
}

// source is one Go file.
type source struct {
	path    string
	dir     string
	top     string // first folder; empty for files at the root
	test    bool
	text    string
	file    *ast.File
	imports []string
}

// textMax is how large a file may be and still be read as text.
const textMax = 1 << 20

func readHouse(root fs.FS) (*house, error) {
	h := &house{root: root, fset: token.NewFileSet(), texts: map[string]string{}}
	return h, fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if base := path.Base(name); base != "." && base != ".ci" && (base[0] == '.' || base == "bin") {
				return fs.SkipDir
			}
			return nil
		}
		if base := path.Base(name); base[0] == '.' && base != ".gitignore" {
			return nil
		}
		if info, err := d.Info(); err != nil || !info.Mode().IsRegular() || info.Size() > textMax {
			return err
		}
		text, err := fs.ReadFile(root, name)
		if err != nil || !utf8.Valid(text) {
			return err
		}
		h.texts[name] = string(text)
		if path.Ext(name) == ".go" && !strings.Contains(name, "testdata/") {
			return h.parse(name, string(text))
		}
		return nil
	})
}

func (h *house) parse(name, text string) error {
	file, err := parser.ParseFile(h.fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	s := &source{path: name, dir: path.Dir(name), test: strings.HasSuffix(name, "_test.go"), text: text, file: file}
	if s.dir != "." {
		s.top, _, _ = strings.Cut(name, "/")
	}
	for _, imp := range file.Imports {
		p, err := strconv.Unquote(imp.Path.Value)
		if err != nil {
			return err
		}
		s.imports = append(s.imports, p)
	}
	h.sources = append(h.sources, s)
	return nil
}

func (h *house) at(n ast.Node) string {
	p := h.fset.Position(n.Pos())
	return fmt.Sprintf("%s:%d", p.Filename, p.Line)
}

func (h *house) lines(n ast.Node) int {
	return h.fset.Position(n.End()).Line - h.fset.Position(n.Pos()).Line + 1
}

// tables is how many lines of f are composite literals of more than one line.
func (h *house) tables(f *ast.FuncDecl) (n int) {
	ast.Inspect(f, func(node ast.Node) bool {
		lit, is := node.(*ast.CompositeLit)
		if is {
			n += h.lines(lit) - 1
		}
		return !is
	})
	return n
}

func (h *house) textOf(s *source, n ast.Node) string {
	return s.text[h.fset.Position(n.Pos()).Offset:h.fset.Position(n.End()).Offset]
}

// modules maps every module of go.mod that is imported, or named as a tool, to one who uses it.
func (h *house) modules() (map[string]string, error) {
	text, err := fs.ReadFile(h.root, "go.mod")
	if err != nil {
		return nil, err
	}
	var required, tools []string
	block := ""
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "//")
		word := strings.Fields(line)
		switch {
		case len(word) == 2 && word[1] == "(":
			block = word[0]
			continue
		case len(word) == 1 && word[0] == ")":
			block = ""
			continue
		case block != "":
			word = append([]string{block}, word...)
		}
		switch {
		case len(word) == 3 && word[0] == "require":
			required = append(required, word[1])
		case len(word) == 2 && word[0] == "tool":
			tools = append(tools, word[1])
		}
	}
	used := map[string]string{}
	use := func(imp, by string) {
		best := ""
		for _, m := range required {
			if len(m) > len(best) && strings.HasPrefix(imp+"/", m+"/") {
				best = m
			}
		}
		if best != "" {
			used[best] = by
		}
	}
	for _, s := range h.sources {
		for _, imp := range s.imports {
			use(imp, s.path)
		}
	}
	for _, tool := range tools {
		use(tool, "go tool "+path.Base(tool))
	}
	return used, nil
}

// named says whether e is the selector pkg.name.
func named(e ast.Expr, pkg, name string) bool {
	sel, is := e.(*ast.SelectorExpr)
	if !is || sel.Sel.Name != name {
		return false
	}
	id, is := sel.X.(*ast.Ident)
	return is && id.Name == pkg
}

// declared yields the names that a file gives to packages, types, functions, fields and package variables.
func declared(f *ast.File) iter.Seq[*ast.Ident] {
	return func(yield func(*ast.Ident) bool) {
		more := true
		give := func(names ...*ast.Ident) {
			for _, n := range names {
				more = more && yield(n)
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.File:
				give(n.Name)
			case *ast.FuncDecl:
				give(n.Name)
			case *ast.TypeSpec:
				give(n.Name)
			case *ast.ValueSpec:
				give(n.Names...)
			case *ast.Field:
				give(n.Names...)
			}
			return more
		})
	}
}

// makers are the functions that may make a package variable: what they return is not changed by its use.
var makers = []string{"errors.New", "fmt.Errorf", "regexp.MustCompile", "strings.NewReplacer", "netip.MustParsePrefix", "netip.MustParseAddr",
	"netip.AddrFrom4", "time.Unix", "time.Date", "template.Must", "big.NewInt", "prometheus.NewDesc", "lipgloss.NewStyle", "len", "cap", "string", "new"}

// notFixed says why a package variable is no error, table or compile-time check; empty: it is one.
func notFixed(s *source, v *ast.ValueSpec, g *ast.GenDecl, builders map[string]bool) string {
	if v.Names[0].Name == "_" {
		return ""
	}
	if len(v.Values) == 0 && g != nil {
		for _, doc := range []*ast.CommentGroup{v.Doc, g.Doc} {
			if doc != nil && strings.Contains(s.text[doc.Pos()-s.file.FileStart:doc.End()-s.file.FileStart], "//go:embed ") {
				return ""
			}
		}
		return "has no value: it is state; give it to a value that somebody owns"
	}
	for _, value := range v.Values {
		why := ""
		ast.Inspect(value, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncLit:
				return false
			case *ast.CallExpr:
				if !fixedCall(s, n, builders) {
					why = "is made by a call that is no maker of errors or tables"
				}
			case *ast.CompositeLit:
				if sel, is := n.Type.(*ast.SelectorExpr); is && (named(sel, "sync", sel.Sel.Name) || named(sel, "atomic", sel.Sel.Name)) {
					why = "is shared state; give it to a value that somebody owns"
				}
			case *ast.ChanType:
				why = "is a channel"
			}
			return why == ""
		})
		if why != "" {
			return why
		}
	}
	return ""
}

// fixedCall says whether a call is a conversion, one of makers, a method of what one of them made, a flag in
// a test, or a builder of a table in the same package: one that is called make… or build…, or that does nothing but return.
func fixedCall(s *source, call *ast.CallExpr, builders map[string]bool) bool {
	switch f := call.Fun.(type) {
	case *ast.ArrayType, *ast.ParenExpr, *ast.MapType, *ast.InterfaceType, *ast.FuncLit:
		return true
	case *ast.IndexExpr:
		return named(f.X, "reflect", "TypeFor")
	case *ast.Ident:
		upper := f.Name[:1] == strings.ToUpper(f.Name[:1])
		return upper || slices.Contains(makers, f.Name) || builders[f.Name]
	case *ast.SelectorExpr:
		switch x := f.X.(type) {
		case *ast.CallExpr:
			return fixedCall(s, x, builders)
		case *ast.Ident:
			return slices.Contains(makers, x.Name+"."+f.Sel.Name) || s.test && x.Name == "flag"
		}
	}
	return false
}

// buildersOf are the functions of each folder that may make package variables.
func buildersOf(h *house) map[string]map[string]bool {
	all := map[string]map[string]bool{}
	for _, s := range h.sources {
		if all[s.dir] == nil {
			all[s.dir] = map[string]bool{}
		}
		for _, d := range s.file.Decls {
			f, is := d.(*ast.FuncDecl)
			if !is || f.Recv != nil || f.Body == nil {
				continue
			}
			called := strings.HasPrefix(f.Name.Name, "make") || strings.HasPrefix(f.Name.Name, "build")
			returns := false
			if len(f.Body.List) == 1 {
				ret, is := f.Body.List[0].(*ast.ReturnStmt)
				returns = is && notFixed(s, &ast.ValueSpec{Names: []*ast.Ident{f.Name}, Values: ret.Results}, nil, nil) == ""
			}
			all[s.dir][f.Name.Name] = called || returns
		}
	}
	return all
}

// assigned finds assignments to names of vars, in functions that do not declare the same name for themselves.
func assigned(s *source, vars map[string]bool) (found []*ast.Ident) {
	for _, d := range s.file.Decls {
		f, is := d.(*ast.FuncDecl)
		if !is {
			continue
		}
		own := map[string]bool{}
		var targets []ast.Expr
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.Field:
				for _, name := range n.Names {
					own[name.Name] = true
				}
			case *ast.ValueSpec:
				for _, name := range n.Names {
					own[name.Name] = true
				}
			case *ast.AssignStmt:
				for _, to := range n.Lhs {
					if id, is := to.(*ast.Ident); is && n.Tok == token.DEFINE {
						own[id.Name] = true
					} else {
						targets = append(targets, to)
					}
				}
			case *ast.RangeStmt:
				for _, to := range []ast.Expr{n.Key, n.Value} {
					if id, is := to.(*ast.Ident); is && n.Tok == token.DEFINE {
						own[id.Name] = true
					}
				}
			case *ast.IncDecStmt:
				targets = append(targets, n.X)
			}
			return true
		})
		for _, to := range targets {
			if id := root(to); id != nil && vars[id.Name] && !own[id.Name] {
				found = append(found, id)
			}
		}
	}
	return found
}

// root is the variable that an assignment to e changes a part of.
func root(e ast.Expr) *ast.Ident {
	switch e := e.(type) {
	case *ast.Ident:
		return e
	case *ast.SelectorExpr:
		return root(e.X)
	case *ast.IndexExpr:
		return root(e.X)
	case *ast.StarExpr:
		return root(e.X)
	case *ast.ParenExpr:
		return root(e.X)
	}
	return nil
}

// TestRulesCatch plants one fault after the other in a small house.
func TestRulesCatch(t *testing.T) {
	long := strings.Repeat("\tn++\n", functionMax)
	for _, c := range []struct{ rule, name, text string }{
		{"floors", "pool/x.go", `package pool; import _ "` + module + `/proxy"`},
		{"floors", "probe/x.go", `package probe; import _ "` + module + `/pool"`},
		{"floors", "site/x.go", `package site; import _ "` + module + `/probe"`},
		{"floors", "proxy/x.go", `package proxy; import _ "` + module + `/node"`},
		{"floors", "attic/x.go", `package attic`},
		{"library", "client/x.go", `package client; import _ "golang.org/x/net/http2"`},
		{"library", "client/x.go", `package client; import _ "` + module + `/site"`},
		{"library", "client/x.go", `package client; import _ "google.golang.org/grpc"`},
		{"library", "client/grpcclient/x.go", `package grpcclient; import _ "golang.org/x/net/http2"`},
		{"library", "node/x.go", `package node; import _ "` + module + `/client/grpcclient"`},
		{"single importers", "proxy/x.go", `package proxy; import _ "github.com/miekg/dns"`},
		{"single importers", "node/x.go", `package node; import _ "google.golang.org/grpc/codes"`},
		{"names of packages", "node/utils/x.go", `package utils`},
		{"package sentences", "wire/x.go", "// Wires.\npackage wire"},
		{"package sentences", "wire/x.go", "package wire"},
		{"function length", "wire/x.go", "package wire\nfunc f(n int) {\n" + long + "}"},
		{"file length", "wire/x.go", "package wire\n" + strings.Repeat("\n", fileMax)},
		{"interfaces", "wire/x.go", "package wire\ntype I interface { A(); B(); C(); D() }"},
		{"init functions", "wire/x.go", "package wire\nfunc init() {}"},
		{"package variables", "wire/x.go", "package wire\nvar n int"},
		{"package variables", "wire/x.go", "package wire\nvar n = load()"},
		{"package variables", "wire/x.go", "package wire\nfunc load() []byte { return os.Args }\nvar n = load2()\nfunc load2() []byte { return read() }"},
		{"package variables", "wire/x.go", "package wire\nvar pool = sync.Pool{}"},
		{"package variables", "wire/x.go", "package wire\nvar c = make(chan int)"},
		{"package variables", "wire/x.go", "package wire\nvar n = map[int]int{}\nfunc f() { n[1] = 2 }"},
		{"package variables", "wire/x.go", "package wire\nvar n = 1\nfunc f() { n++ }"},
		{"sleeps in tests", "wire/x_test.go", "package wire\nfunc f() { time.Sleep(1) }"},
		{"skips in tests", "wire/x_test.go", "package wire\nfunc f(t *testing.T) { t.Skip(\"no nginx\") }"},
		{"skips in tests", "wire/x_test.go", "package wire\nfunc f(t *testing.T) { t.SkipNow() }"},
		{"dependencies", "wire/x.go", `package wire; import _ "example.org/b/c"`},
		{"dependencies", "docs/dependencies.md", "| `example.org/b` | why | MIT | x |\n"},
		{"paths in documents", "ARCHITECTURE.md", "see `wire/gone.go`"},
		{"words", "wire/x.go", "package wire\nfunc newBackend() {}"},
		{"words", "docs/x.md", "a middleware"},
		{"places", "docs/x.md", "see /home/" + "me/notes"},
	} {
		root := fstest.MapFS{
			"go.mod":               {Data: []byte("require (\n\texample.org/b v1.0.0 // indirect\n)\n")},
			"docs/dependencies.md": {},
			"ARCHITECTURE.md":      {Data: []byte("`docs/` and `docs/dependencies.md`")},
			"CONTRIBUTING.md":      {},
		}
		h, err := readHouse(root)
		if err != nil {
			t.Fatal(err)
		}
		if before := rules[c.rule](h); len(before) != 0 {
			t.Errorf("%s: an empty house breaks it: %v", c.rule, before)
		}
		root[c.name] = &fstest.MapFile{Data: []byte(c.text)}
		if h, err = readHouse(root); err != nil {
			t.Fatal(err)
		}
		if len(rules[c.rule](h)) == 0 {
			t.Errorf("%s: does not see what is wrong with %s:\n%.200s", c.rule, c.name, c.text)
		}
	}
}

// TestFuzzRunnerFindsAll: `make fuzz` runs every fuzz target there is.
func TestFuzzRunnerFindsAll(t *testing.T) {
	out, err := exec.Command("bash", ".ci/fuzz", "list").Output()
	if err != nil {
		t.Fatalf(".ci/fuzz list: %v", err)
	}
	found := strings.Split(strings.TrimSpace(string(out)), "\n")
	h, err := readHouse(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, s := range h.sources {
		for _, d := range s.file.Decls {
			if f, is := d.(*ast.FuncDecl); is && s.test && strings.HasPrefix(f.Name.Name, "Fuzz") && f.Recv == nil {
				want = append(want, "./"+s.dir+" "+f.Name.Name)
			}
		}
	}
	slices.Sort(want)
	slices.Sort(found)
	if !slices.Equal(found, want) {
		t.Errorf("the fuzz runner finds\n%v\nand there are\n%v", found, want)
	}
}
