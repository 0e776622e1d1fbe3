package site

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// maxText bounds one value after its variables were put in.
const maxText = 64 << 10 // bytes; the longest sensible value is a body or a regular expression

// expand puts environment variables into a text: ${NAME}, ${NAME:-default}, and $${ for ${ itself.
// A lone $ is kept, because regular expressions end in one.
func expand(s string, env func(string) (string, bool)) (string, error) {
	if !strings.Contains(s, "${") {
		return s, nil
	}
	var b strings.Builder
	for s != "" {
		i := strings.Index(s, "${")
		if i < 0 {
			b.WriteString(s)
			break
		}
		if i > 0 && s[i-1] == '$' {
			b.WriteString(s[:i-1] + "${")
			s = s[i+2:]
			continue
		}
		b.WriteString(s[:i])
		inner, rest, closed := strings.Cut(s[i+2:], "}")
		if !closed {
			return "", fmt.Errorf("%s has ${ without }; write $${ for the characters themselves", quote(s[i:]))
		}
		value, err := variable(inner, env)
		if err != nil {
			return "", err
		}
		b.WriteString(value)
		if b.Len() > maxText {
			return "", fmt.Errorf("the value is longer than %s once its variables are put in", Size(maxText))
		}
		s = rest
	}
	return b.String(), nil
}

func variable(inner string, env func(string) (string, bool)) (string, error) {
	name, fallback, hasFallback := strings.Cut(inner, ":-")
	for i, c := range []byte(name) {
		if c != '_' && (!alphanumeric(c) || i == 0 && c <= '9') {
			return "", fmt.Errorf("%s is not the name of a variable; write ${NAME}, ${NAME:-default}, or $${ for the characters themselves", quote(name))
		}
	}
	if name == "" {
		return "", errors.New("${} names no variable; write ${NAME}, or $${ for the characters themselves")
	}
	value, ok := env(name)
	switch {
	case hasFallback && value == "": // as in a shell: :- also holds for a variable that is set and empty
		return fallback, nil
	case !ok:
		return "", fmt.Errorf("the environment variable %s is not set; set it, or write ${%s:-default}", name, name)
	case !utf8.ValidString(value):
		return "", fmt.Errorf("the environment variable %s is not UTF-8", name)
	}
	return value, nil
}

// escape is the inverse of expand.
func escape(s string) string { return strings.ReplaceAll(s, "${", "$${") }

// disk is how a load reaches the world outside its text. Tests and fuzzing put their own in its place.
type disk struct {
	env  func(name string) (string, bool)
	read func(path string, limit int64) ([]byte, error)
	list func(path string) (names []string, isFolder bool, err error)
}

// realDisk is the environment and the file system of this process.
func realDisk() disk { return disk{env: os.LookupEnv, read: readRegular, list: listFolder} }

// readRegular reads a file of at most limit bytes. A named pipe or device is refused: opening one may wait for ever.
func readRegular(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, plain(err)
	case info.IsDir():
		return nil, errors.New("it is a folder, but a file is wanted")
	case !info.Mode().IsRegular():
		return nil, errors.New("it is not a regular file")
	case info.Size() > limit:
		return nil, fmt.Errorf("it is larger than %s, the limit", Size(limit))
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, plain(err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("it is larger than %s, the limit", Size(limit))
	}
	return data, nil
}

// plain drops what the mistake says itself: the operation and the path.
func plain(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// listFolder names what lies in a folder, sorted.
func listFolder(path string) ([]string, bool, error) {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return nil, false, plain(err)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, true, plain(err)
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, true, nil
}

// absolute resolves a path against the folder of the file that names it.
func absolute(path, dir string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}
