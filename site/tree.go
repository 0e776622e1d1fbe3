package site

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"
)

// Limits of one load. They bound the time and memory that a hostile or broken file can take.
const (
	maxFileBytes = 4 << 20 // 10,000 endpoints with all their fields are 1 MiB
	maxDepth     = 32      // the deepest field of a site lies at 7
	maxItems     = 50_000  // of one list or mapping; a node is built for 10,000 endpoints
	maxExpanded  = 100_000 // nodes that come in through aliases: nine lines of YAML can stand for a billion
)

// source is one file being read.
type source struct {
	name  string // as shown in mistakes
	dir   string // absolute folder that relative paths in it start from
	order int    // in reading order
}

// place is where something stands.
type place struct {
	src          *source
	line, column int
}

type nodeKind int

const (
	scalarNode nodeKind = iota
	mappingNode
	listNode
)

func (k nodeKind) String() string { return [...]string{"a single value", "a mapping", "a list"}[k] }

// node is a YAML value with its place, aliases resolved, keys unique.
type node struct {
	at      place
	kind    nodeKind
	text    string // of a scalar
	null    bool   // a plain scalar that says nothing: empty, ~ or null
	quoted  bool
	entries []entry // of a mapping, in the order of the file
	items   []*node // of a list
}

// entry is one key of a mapping with its value.
type entry struct {
	key   string
	at    place // of the key
	value *node
}

func (n *node) find(key string) *entry {
	for i := range n.entries {
		if n.entries[i].key == key {
			return &n.entries[i]
		}
	}
	return nil
}

// treeReader turns one YAML document into nodes.
type treeReader struct {
	src      *source
	report   func(at place, path, text string)
	open     map[*yaml.Node]bool // anchors that are being expanded
	inAlias  int                 // depth of aliases around the current node
	expanded int
	full     bool // a limit was reached and reported
}

// readTree parses data. What is wrong is reported; root is nil when nothing can be decoded, and whole says whether all
// of the text became nodes.
func readTree(src *source, data []byte, report func(place, string, string)) (root *node, whole bool) {
	start := place{src, 1, 1}
	if len(data) > maxFileBytes {
		report(start, "", fmt.Sprintf("the file is larger than %s, the limit; split it with include", Size(maxFileBytes)))
		return nil, false
	}
	// The YAML library promises errors, not silence: should it ever panic on odd input, that is a mistake of
	// the file like any other and must not end a running node on reload.
	defer func() {
		if p := recover(); p != nil {
			report(start, "", "the file cannot be read as YAML")
			root, whole = nil, false
		}
	}()
	if len(data) > 1 && (data[0] == 0xfe && data[1] == 0xff || data[0] == 0xff && data[1] == 0xfe) {
		report(start, "", "the file is UTF-16; save it as UTF-8")
		return nil, false
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return &node{at: start, kind: mappingNode}, true
	} else if err != nil {
		line, column, text := explainSyntax(data, err)
		report(place{src, line, column}, "", text)
		return nil, false
	}
	var second yaml.Node
	if err := dec.Decode(&second); err == nil {
		report(place{src, second.Line, second.Column}, "", "a second document starts here; a site file is one document (use include for more files)")
	} else if !errors.Is(err, io.EOF) {
		line, column, text := explainSyntax(data, err)
		report(place{src, line, column}, "", text)
	}
	r := &treeReader{src: src, report: report, open: map[*yaml.Node]bool{}}
	if len(doc.Content) == 0 {
		return &node{at: start, kind: mappingNode}, true
	}
	root = r.node(doc.Content[0], "", 0)
	return root, root != nil && !r.full
}

// fail reports a limit once and ends the reading.
func (r *treeReader) fail(y *yaml.Node, path, text string) *node {
	if !r.full {
		const longest = 60 // characters of a path that is deep for no good reason
		if len(path) > longest {
			path = path[:longest] + "…"
		}
		r.report(r.place(y), path, text)
	}
	r.full = true
	return nil
}

func (r *treeReader) place(y *yaml.Node) place { return place{r.src, y.Line, y.Column} }

// node returns nil when the value cannot be used; that was reported.
func (r *treeReader) node(y *yaml.Node, path string, depth int) *node {
	if r.inAlias > 0 {
		r.expanded++
	}
	switch {
	case r.full:
		return nil
	case depth > maxDepth:
		return r.fail(y, path, fmt.Sprintf("nested more than %d deep", maxDepth))
	case y.Kind == yaml.SequenceNode && len(y.Content) > maxItems || len(y.Content) > 2*maxItems:
		return r.fail(y, path, fmt.Sprintf("more than %d things stand here, the limit of one list or mapping", maxItems))
	case r.expanded > maxExpanded:
		return r.fail(y, path, fmt.Sprintf("the aliases of this file stand for more than %d values", maxExpanded))
	}
	switch y.Kind {
	case yaml.AliasNode:
		return r.alias(y, path, depth)
	case yaml.MappingNode:
		return r.mapping(y, path, depth)
	case yaml.SequenceNode:
		n := &node{at: r.place(y), kind: listNode}
		for i, item := range y.Content {
			if child := r.node(item, fmt.Sprintf("%s[%d]", path, i), depth+1); child != nil {
				n.items = append(n.items, child)
			}
		}
		return n
	}
	return r.scalar(y, path)
}

func (r *treeReader) scalar(y *yaml.Node, path string) *node {
	n := &node{at: r.place(y), text: y.Value, quoted: y.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0}
	switch tag := y.ShortTag(); {
	case y.Style&yaml.TaggedStyle != 0 && tag != "!!str" && tag != "!!int" && tag != "!!float" && tag != "!!bool":
		r.report(n.at, path, fmt.Sprintf("the tag %s is not taken here; leave it out", y.Tag))
		return nil
	case tag == "!!null":
		n.null = true
	}
	return n
}

func (r *treeReader) alias(y *yaml.Node, path string, depth int) *node {
	to := y.Alias
	if r.open[to] {
		return r.fail(y, path, fmt.Sprintf("the alias *%s stands within its own anchor", y.Value))
	}
	r.open[to] = true
	r.inAlias++
	n := r.node(to, path, depth)
	r.inAlias--
	delete(r.open, to)
	return n
}

func (r *treeReader) mapping(y *yaml.Node, path string, depth int) *node {
	n := &node{at: r.place(y), kind: mappingNode}
	seen := make(map[string]int, len(y.Content)/2)
	var merged []*node
	for i := 0; i+1 < len(y.Content) && !r.full; i += 2 {
		key := y.Content[i]
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key.Kind != yaml.ScalarNode {
			r.report(r.place(y.Content[i]), path, "a key is a plain word, not a list or mapping")
			continue
		}
		if key.ShortTag() == "!!merge" {
			merged = append(merged, r.merge(y.Content[i+1], path, depth))
			continue
		}
		child := join(path, key.Value)
		if first, twice := seen[key.Value]; twice {
			r.report(r.place(y.Content[i]), child, fmt.Sprintf("given twice; the first is at line %d", first))
			continue
		}
		seen[key.Value] = key.Line
		e := entry{key: key.Value, at: r.place(y.Content[i]), value: r.node(y.Content[i+1], child, depth+1)}
		n.entries = append(n.entries, e)
	}
	for _, m := range merged {
		if m == nil {
			continue
		}
		for _, e := range m.entries {
			if n.find(e.key) == nil { // what is written in full wins over what << brings
				n.entries = append(n.entries, e)
			}
		}
	}
	return n
}

// merge reads the value of a << key: a mapping, or a list of them of which the first wins.
func (r *treeReader) merge(y *yaml.Node, path string, depth int) *node {
	n := r.node(y, join(path, "<<"), depth+1)
	if n == nil || n.kind == mappingNode {
		return n
	}
	all := &node{at: n.at, kind: mappingNode}
	for _, item := range n.items {
		for _, e := range item.entries {
			if all.find(e.key) == nil {
				all.entries = append(all.entries, e)
			}
		}
	}
	if len(all.entries) == 0 {
		r.report(n.at, path, "<< takes a mapping, or a list of mappings")
	}
	return all
}

// join adds a key to a path.
func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
