package wire

// Error says why bytes are no message that is passed on. All errors are ready made and shared; compare
// them with errors.Is, which looks at the reason alone, so that ErrBadField matches in requests and responses.
type Error struct {
	Reason string // stable word of a closed set
	Status int    // what the client is answered; always 502 for a response
	text   string
}

// Error is one sentence for people.
func (e *Error) Error() string { return e.text }

// Is reports whether target is an Error with the same reason.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Reason == e.Reason
}

// The errors of heads, with the status that answers a request.
var (
	ErrHeadTooLarge        = &Error{"head_too_large", 431, "the head is larger than the limit"}
	ErrTooManyFields       = &Error{"too_many_fields", 431, "the head has more fields than the limit"}
	ErrURITooLong          = &Error{"uri_too_long", 414, "the request line alone is larger than the limit of a head"}
	ErrBadRequestLine      = &Error{"bad_request_line", 400, "the request line is not a method, a target and a version with one space between"}
	ErrBadTarget           = &Error{"bad_target", 400, "the request target is malformed or of a form that the method does not allow"}
	ErrVersion             = &Error{"bad_version", 505, "the version is neither HTTP/1.0 nor HTTP/1.1"}
	ErrBadStatusLine       = &Error{"bad_status_line", 502, "the status line is not a version, a status and a reason"}
	ErrBadField            = &Error{"bad_field", 400, "a field has a malformed name or a control character in its value"}
	ErrObsFold             = &Error{"obs_fold", 400, "a field line begins with white space"}
	ErrBareLF              = &Error{"bare_lf", 400, "a line ends in LF without CR"}
	ErrBareCR              = &Error{"bare_cr", 400, "a CR stands without LF"}
	ErrNoHost              = &Error{"no_host", 400, "the request has no Host field"}
	ErrBadHost             = &Error{"bad_host", 400, "the host is empty or not a name or address with an optional port"}
	ErrDuplicateHost       = &Error{"duplicate_host", 400, "the request has more than one Host field"}
	ErrHostMismatch        = &Error{"host_mismatch", 400, "the Host field differs from the authority of the target"}
	ErrBadLength           = &Error{"bad_length", 400, "Content-Length is repeated, not a number of bytes, or not allowed here"}
	ErrLengthAndChunked    = &Error{"length_and_chunked", 400, "Content-Length and Transfer-Encoding stand together"}
	ErrBadTransferEncoding = &Error{"bad_transfer_encoding", 400, "Transfer-Encoding is malformed, repeated, or not allowed here"}
	ErrUnknownCoding       = &Error{"unknown_coding", 501, "Transfer-Encoding names another coding than chunked"}
	ErrExpectation         = &Error{"bad_expectation", 417, "Expect asks for something else than 100-continue"}
)

// The errors of chunked bodies.
var (
	ErrBadChunk      = &Error{"bad_chunk", 400, "the chunked coding is malformed"}
	ErrChunkOverhead = &Error{"chunk_overhead", 400, "chunk extensions are larger than the limit"}
)

// responseErrors are the errors that a response can have too, as the client is told of them.
var responseErrors = [...]*Error{
	badGateway(ErrHeadTooLarge), badGateway(ErrTooManyFields), badGateway(ErrVersion), badGateway(ErrBadField),
	badGateway(ErrObsFold), badGateway(ErrBareLF), badGateway(ErrBareCR), badGateway(ErrBadLength),
	badGateway(ErrLengthAndChunked), badGateway(ErrBadTransferEncoding), badGateway(ErrUnknownCoding),
}

func badGateway(e *Error) *Error { return &Error{e.Reason, 502, e.text} }

// ofResponse is e as the error of a response.
func ofResponse(e *Error) *Error {
	for _, r := range responseErrors {
		if r.Reason == e.Reason {
			return r
		}
	}
	return e
}
