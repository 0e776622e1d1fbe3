package exchange

// codeMeans are the statuses of HTTP that say what codes of gRPC say when something went wrong on the side of whoever answers; 0 for the others, which are
// about the call, as a 404 is.
var codeMeans = [...]uint16{
	2:  500, // UNKNOWN: what a program that failed in a way nobody thought of says
	4:  504, // DEADLINE_EXCEEDED
	8:  429, // RESOURCE_EXHAUSTED
	12: 501, // UNIMPLEMENTED
	13: 500, // INTERNAL
	14: 503, // UNAVAILABLE
	15: 500, // DATA_LOSS
}

// codeNames are the names of the codes.
var codeNames = [...]string{"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED",
	"FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"}

// CodeMax is the greatest code of gRPC.
const CodeMax = len(codeNames) - 1

// StatusOfCode is the status of HTTP that says what a code of gRPC says of whoever answered; 0: nothing against it.
func StatusOfCode(code uint8) int {
	if int(code) >= len(codeMeans) {
		return 0
	}
	return int(codeMeans[code])
}

// CodeName is what a code of gRPC is called, empty for what is none.
func CodeName(code uint8) string {
	if int(code) >= len(codeNames) {
		return ""
	}
	return codeNames[code]
}
