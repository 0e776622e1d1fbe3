package site

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"reflect"
	"strings"
)

// maxFiles bounds the files of one site: more is a generated set, which its generator can join.
const maxFiles = 100

// tree reads one file and everything it includes into one tree: the file itself first, then its includes in
// the order they are named. nil: nothing could be read.
func (l *loader) tree(src *source, path string, data []byte) *node {
	src.order = len(l.sources)
	l.sources = append(l.sources, src)
	l.watch(path)
	l.included[path] = place{src, 1, 1}
	root, whole := readTree(src, data, l.report)
	l.broken = l.broken || !whole
	if root == nil {
		return nil
	}
	if root.kind != mappingNode {
		l.broken = true
		l.report(root.at, "", fmt.Sprintf("a site file is a mapping of keys such as listeners and pools, not %s", root.kind))
		return nil
	}
	e := root.find("include")
	if e == nil || e.value == nil {
		return root
	}
	if e.value.kind != listNode {
		l.report(e.value.at, "include", "a list is wanted: include: ["+e.value.text+"]")
		l.broken = true
		return root
	}
	for i, item := range e.value.items {
		l.include(root, item, fmt.Sprintf("include[%d]", i))
	}
	return root
}

// include merges what one item of an include list names into root: a file, or every *.yaml of a folder.
func (l *loader) include(root, item *node, path string) {
	fail := func(format string, args ...any) {
		l.broken = true
		l.report(item.at, path, fmt.Sprintf(format, args...))
	}
	text, err := expand(item.text, l.env)
	if err != nil || item.kind != scalarNode || text == "" || strings.ContainsRune(text, 0) {
		fail("the path of a file or folder is wanted%s", because(err))
		return
	}
	src := item.at.src
	full, shown := absolute(text, src.dir), text
	if !filepath.IsAbs(text) {
		shown = filepath.Join(filepath.Dir(src.name), text)
	}
	names, folder, err := l.list(full)
	if !folder {
		l.includeFile(root, full, shown, fail)
		return
	}
	l.watch(full)
	if err != nil {
		fail("the folder %s cannot be read: %v", shown, err)
		return
	}
	for _, name := range names {
		switch {
		case strings.HasPrefix(name, "."): // what editors and mounted config maps leave there
		case strings.HasSuffix(name, ".yaml"):
			l.includeFile(root, filepath.Join(full, name), filepath.Join(shown, name), fail)
		case strings.HasSuffix(name, ".yml"):
			fail("%s would be left out, because only *.yaml is read; rename it", filepath.Join(shown, name))
		}
	}
}

func because(err error) string {
	if err == nil {
		return ""
	}
	return ": " + err.Error()
}

func (l *loader) includeFile(root *node, full, shown string, fail func(string, ...any)) {
	if first, twice := l.included[full]; twice {
		if first.src.name == shown {
			fail("%s is included a second time, or includes itself", shown)
		} else {
			fail("%s is included a second time, or includes itself (read before as %s)", shown, first.src.name)
		}
		return
	}
	if len(l.sources) >= maxFiles {
		if !l.broken || len(l.sources) == maxFiles {
			fail("a site has at most %d files; %s and what follows is not read", maxFiles, shown)
			l.sources = append(l.sources, &source{}) // said once
		}
		return
	}
	data, err := l.read(full, maxFileBytes)
	if errors.Is(err, fs.ErrNotExist) {
		fail("there is no file or folder %s", shown)
		return
	} else if err != nil {
		fail("%s cannot be read: %v", shown, err)
		return
	}
	if sub := l.tree(&source{name: shown, dir: filepath.Dir(full)}, full, data); sub != nil {
		l.merge(root, sub, reflect.TypeFor[Site](), "")
	}
}

// merge joins from into into as the fields of t say: sections field by field, mappings of names by name,
// lists one after the other. What can be there only once and is there twice is a mistake that names both places.
func (l *loader) merge(into, from *node, t reflect.Type, path string) {
	fields := map[string]reflect.Type{}
	for _, f := range fieldsOf(t) {
		fields[f.key] = f.typ
	}
	for _, e := range from.entries {
		at := join(path, e.key)
		old := into.find(e.key)
		switch {
		case path == "" && e.key == "include": // was followed when its file was read
		case old == nil:
			into.entries = append(into.entries, e)
		case old.value == nil || e.value == nil: // reported when it was read
		default:
			l.mergeValue(old, e, fields[e.key], at)
		}
	}
}

func (l *loader) mergeValue(old *entry, e entry, t reflect.Type, path string) {
	if t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	same := old.value.kind == e.value.kind
	switch {
	case t == nil: // an unknown key: both are reported as such
		l.report(e.at, path, "unknown key")
	case same && t.Kind() == reflect.Struct && !isScalar(t) && old.value.kind == mappingNode:
		l.merge(old.value, e.value, t, path)
	case same && t.Kind() == reflect.Map && old.value.kind == mappingNode:
		for _, one := range e.value.entries {
			if first := old.value.find(one.key); first != nil {
				l.twice(one.at, first.at, join(path, one.key))
				continue
			}
			old.value.entries = append(old.value.entries, one)
		}
	case same && t.Kind() == reflect.Slice && old.value.kind == listNode:
		old.value.items = append(old.value.items, e.value.items...)
	default:
		l.twice(e.at, old.at, path)
	}
}

func (l *loader) twice(at, first place, path string) {
	l.report(at, path, fmt.Sprintf("given twice; the first is at %s:%d:%d", first.src.name, first.line, first.column))
}
