package node

// matchPath shows a path as routes look at it: percent-encoding undone once, backslashes as slashes, runs of slashes
// as one. Two spellings that an endpoint may take for the same path so meet the same route. What is
// sent on stays as the client wrote it. It reports false for a path that evenkeel refuses, because endpoints
// disagree about what it names: one with a dot segment ("." or "..", however encoded, also before a ";"), or with
// an encoded control character.
//
// The view is path itself when there is nothing to change, else it is built in buf.
func matchPath(path, buf []byte) ([]byte, bool) {
	plain := true
	for i, c := range path {
		if c == '%' || c == '\\' || c == '.' && (i == 0 || path[i-1] == '/') || c == '/' && i > 0 && path[i-1] == '/' {
			plain = false
			break
		}
	}
	if plain {
		return path, true
	}
	view := buf[:0]
	for i := 0; i < len(path); i++ {
		c := path[i]
		if c == '%' && i+2 < len(path) {
			hi, lo := unhex(path[i+1]), unhex(path[i+2])
			if hi >= 0 && lo >= 0 {
				c = byte(hi<<4 | lo)
				i += 2
				if c < 0x20 || c == 0x7f {
					return nil, false
				}
			}
		}
		if c == '\\' {
			c = '/'
		}
		if c == '/' && len(view) > 0 && view[len(view)-1] == '/' {
			continue
		}
		view = append(view, c)
	}
	return view, !hasDotSegment(view)
}

// hasDotSegment reports whether a segment is "." or "..", parameters after a ";" left aside.
func hasDotSegment(path []byte) bool {
	for i := 0; i < len(path); i++ {
		if path[i] != '.' || i > 0 && path[i-1] != '/' {
			continue
		}
		end := i + 1
		if end < len(path) && path[end] == '.' {
			end++
		}
		if end == len(path) || path[end] == '/' || path[end] == ';' {
			return true
		}
	}
	return false
}

// unhex is the value of a hexadecimal digit, -1 for anything else.
func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
