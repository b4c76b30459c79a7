"""Socket.IO revision 5: packets, attachments, the decoder and the state table of a namespace."""
