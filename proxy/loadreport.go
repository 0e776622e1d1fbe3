package proxy

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"math"
	"strconv"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
)

// Load reports of endpoints: Open Request Cost Aggregation (ORCA), as gRPC A51 and Envoy read it. Of xds.data.orca.v3.OrcaLoadReport
// application_utilization counts, which the application itself works out, or else cpu_utilization; both are 1 when full and may be more.
const (
	nameLoadReport    = "endpoint-load-metrics"     // TEXT a=1, b=2; JSON {"a":1}; BIN and base64
	nameLoadReportBin = "endpoint-load-metrics-bin" // base64 of the message
	// loadReportMax is the longest report that is read: some named metrics beside the two. More would be work for nothing.
	loadReportMax = 1024
	// utilisationMax is the most that is believed: ten times what is full.
	utilisationMax = 10

	fieldCPU         = 1 // numbers of the message
	fieldApplication = 9
)

// reportsLoad takes the load report of f in, when f is one. It is for evenkeel and goes no further.
func reportsLoad(x *exchange.Exchange, f *wire.Field) bool {
	switch {
	case len(f.Name) == len(nameLoadReport) && wire.EqualFold(f.Name, nameLoadReport):
		x.Result.Utilisation = loadReport(f.Value)
	case len(f.Name) == len(nameLoadReportBin) && wire.EqualFold(f.Name, nameLoadReportBin):
		x.Result.Utilisation = binaryReport(f.Value)
	default:
		return false
	}
	return true
}

// loadReport is the utilisation in the value of a field: an ORCA report, or a number, with % or without; 0 when there is none.
func loadReport(v []byte) float32 {
	v = bytes.TrimSpace(v)
	if len(v) > loadReportMax {
		return 0
	}
	kind, rest, _ := bytes.Cut(v, []byte{' '})
	switch string(kind) {
	case "TEXT":
		return textReport(rest)
	case "JSON":
		return jsonReport(rest)
	case "BIN":
		return binaryReport(rest)
	}
	scale := 1.0
	if n := len(v); n > 0 && v[n-1] == '%' {
		v, scale = v[:n-1], 0.01
	}
	return utilisation(number(v) * scale)
}

// number is a decimal number; NaN when v is none.
func number(v []byte) float64 {
	if len(v) == 0 || len(v) > 32 {
		return math.NaN()
	}
	f, err := strconv.ParseFloat(string(bytes.TrimSpace(v)), 64)
	if err != nil {
		return math.NaN()
	}
	return f
}

// utilisation is f when it can be one, else 0.
func utilisation(f float64) float32 {
	if !(f > 0) { // NaN too
		return 0
	}
	return float32(min(f, utilisationMax))
}

// better is the utilisation of an application and a processor that were both told or not.
func better(application, cpu float64) float32 {
	if u := utilisation(application); u > 0 {
		return u
	}
	return utilisation(cpu)
}

// textReport reads name=value or name:value, parted by commas.
func textReport(v []byte) float32 {
	application, cpu := math.NaN(), math.NaN()
	for len(v) > 0 {
		var pair []byte
		pair, v, _ = bytes.Cut(v, []byte{','})
		at := bytes.IndexAny(pair, "=:")
		if at < 0 {
			continue
		}
		switch string(bytes.TrimSpace(pair[:at])) {
		case "application_utilization":
			application = number(bytes.TrimSpace(pair[at+1:]))
		case "cpu_utilization":
			cpu = number(bytes.TrimSpace(pair[at+1:]))
		}
	}
	return better(application, cpu)
}

// jsonReport reads the two members of the outermost object, in either of proto3's spellings. It looks for no more of JSON's grammar
// than it takes to know what is a name of the outermost object and what is its value.
func jsonReport(v []byte) float32 {
	application, cpu := math.NaN(), math.NaN()
	depth := 0
	for i := 0; i < len(v); {
		switch c := v[i]; c {
		case '{', '[':
			depth++
			i++
		case '}', ']':
			depth--
			i++
		case '"':
			text, next := quoted(v, i)
			i = next
			if depth != 1 || next >= len(v) {
				continue
			}
			for i < len(v) && (v[i] == ' ' || v[i] == '\t') {
				i++
			}
			if i >= len(v) || v[i] != ':' {
				continue
			}
			switch string(text) {
			case "application_utilization", "applicationUtilization":
				application = number(value(v[i+1:]))
			case "cpu_utilization", "cpuUtilization":
				cpu = number(value(v[i+1:]))
			}
		default:
			i++
		}
	}
	return better(application, cpu)
}

// quoted is the text in quotes that begins at i, as it stands, and where it ends.
func quoted(v []byte, i int) (text []byte, next int) {
	for j := i + 1; j < len(v); j++ {
		switch v[j] {
		case '\\':
			j++
		case '"':
			return v[i+1 : j], j + 1
		}
	}
	return nil, len(v)
}

// value is what stands before the next comma or bracket.
func value(v []byte) []byte {
	if i := bytes.IndexAny(v, ",}]"); i >= 0 {
		v = v[:i]
	}
	return bytes.TrimSpace(v)
}

// binaryReport reads the two doubles of a message in base64.
func binaryReport(v []byte) float32 {
	var buf [loadReportMax]byte
	v = bytes.TrimRight(bytes.TrimSpace(v), "=")
	if base64.RawStdEncoding.DecodedLen(len(v)) > len(buf) {
		return 0
	}
	n, err := base64.RawStdEncoding.Decode(buf[:], v)
	if err != nil {
		return 0
	}
	application, cpu := math.NaN(), math.NaN()
	for m := buf[:n]; len(m) > 0; {
		tag, size := binary.Uvarint(m)
		if size <= 0 {
			break
		}
		m = m[size:]
		length := uint64(0)
		switch tag & 7 {
		case 0: // varint
			_, size = binary.Uvarint(m)
			if size <= 0 {
				return better(application, cpu)
			}
			length = uint64(size)
		case 1: // 64 bit
			length = 8
			if len(m) >= 8 {
				switch tag >> 3 {
				case fieldApplication:
					application = math.Float64frombits(binary.LittleEndian.Uint64(m))
				case fieldCPU:
					cpu = math.Float64frombits(binary.LittleEndian.Uint64(m))
				}
			}
		case 2: // bytes
			length, size = binary.Uvarint(m)
			if size <= 0 {
				return better(application, cpu)
			}
			m = m[size:]
		case 5: // 32 bit
			length = 4
		default:
			return better(application, cpu)
		}
		if length > uint64(len(m)) {
			break
		}
		m = m[length:]
	}
	return better(application, cpu)
}

// loadOf reads the field in which this pool's endpoints tell their load; the client may see it.
func (l *Link) loadOf(x *exchange.Exchange, r *wire.Response) {
	name := l.up.cfg().Shed.Utilisation
	if name == "" {
		return
	}
	if v, ok := wire.FieldNamed(r.Fields, name); ok {
		if u := loadReport(v); u > 0 {
			x.Result.Utilisation = u
		}
	}
}

// reportsIn takes load reports out of trailers, where gRPC puts them.
func reportsIn(x *exchange.Exchange, list []wire.Field) []wire.Field {
	kept := list[:0]
	for i := range list {
		if !reportsLoad(x, &list[i]) {
			kept = append(kept, list[i])
		}
	}
	return kept
}
