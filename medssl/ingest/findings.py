"""Every finding: its severity, a sentence that a radiologist understands, and what to do.

`error` findings belong to files that were rejected, `warning` and `info` to scans that were accepted. Codes of ignored
files have a sentence too, so that the report can say why.
"""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    severity: str
    sentence: str
    todo: str


def finding(code: str) -> Finding:
    return FINDINGS[code]


def row(code: str) -> tuple[str, str, str, str]:
    """(code, severity, sentence, todo), as the catalog stores it."""
    return (code, *FINDINGS[code])


_RECODE = "Convert the files to an uncompressed or JPEG 2000 syntax."
_RESEND = "Export the series again from the PACS, or leave it out."

FINDINGS: dict[str, Finding] = {
    # rejected
    "unreadable": Finding("error", "The file is damaged or incomplete.", "Copy it again from its origin."),
    "truncated": Finding("error", "The file ends before its pixels do.", "Copy it again from its origin."),
    "empty_file": Finding("error", "The file has no content.", "Copy it again from its origin."),
    "wrong_content": Finding(
        "error", "The file is named like a scan, but its content is not one.", "Copy it again from its origin."
    ),
    "too_large": Finding(
        "error", "The image claims more pixels than can be real.", "Check the file; tile it where it is real."
    ),
    "unknown_codec": Finding(
        "error", "The pixels are compressed in a way that cannot be read here.", "Convert the files to another syntax."
    ),
    "unsupported_pixels": Finding(
        "error", "The pixels have a layout that is not understood.", "Convert the file to gray values or RGB."
    ),
    "codec_video": Finding("error", "The object is a compressed video (MPEG).", "Export its frames as images."),
    "codec_jpeg2000_part2": Finding(
        "error", "The pixels are compressed with JPEG 2000 Part 2, which cannot be read here.", _RECODE
    ),
    "codec_jpeg_xl": Finding("error", "The pixels are compressed with JPEG XL, which cannot be read here.", _RECODE),
    "codec_jpeg_12bit": Finding(
        "error", "The pixels are compressed with 12-bit JPEG, which cannot be read here.", _RECODE
    ),
    "codec_elsewhere": Finding("error", "The pixels are not in the file but on a server (JPIP).", _RESEND),
    "codec_encapsulated": Finding("error", "The pixels are in fragments that cannot be read here.", _RECODE),
    "codec_deflated_frames": Finding("error", "The frames are deflated one by one, which is not read here.", _RECODE),
    "bad_frames": Finding("error", "The object's frames do not fit what is said of them.", _RESEND),
    "bad_mosaic": Finding(
        "error", "A Siemens mosaic without its private header: its slices cannot be placed.", _RESEND
    ),
    "several_pages": Finding(
        "error", "The TIFF holds several pages: whether they are a volume, channels or previews, it does not say.",
        "Save each page as a file of its own, or the stack as NIfTI with its geometry.",
    ),
    "moving_picture": Finding("error", "The PNG is an animation.", "Save each frame as a file of its own."),
    "missing_slices": Finding("error", "Slices are missing inside the series.", _RESEND),
    "uneven_slices": Finding("error", "The distances between the slices of the series differ.", _RESEND),
    "duplicate_slices": Finding("error", "The series holds several slices at the same place.", _RESEND),
    "shifted_slices": Finding("error", "The slices of the series are shifted against each other.", _RESEND),
    "bad_geometry": Finding(
        "error", "Position, orientation or pixel spacing are missing or make no sense.", _RESEND
    ),
    "bad_rescale": Finding("error", "The numbers that turn stored values into intensities make no sense.", _RESEND),
    "mixed_rescale": Finding(
        "error", "Some slices of the series say how their values become intensities, and others do not.", _RESEND
    ),
    "mixed_series": Finding("error", "The images of the series do not belong to one volume.", _RESEND),
    "only_padding": Finding("error", "The scan holds no measured value.", "Leave it out."),
    "bad_dimensions": Finding("error", "The NIfTI has a number of dimensions that is not a scan.", "Save 3-D volumes."),
    "vector_voxels": Finding(
        "error", "Each voxel holds several numbers (a deformation field, a tensor), not an intensity.",
        "Save each component as a volume of its own, where it is one.",
    ),
    "complex_voxels": Finding(
        "error", "The voxels are complex numbers.", "Save magnitude and phase as volumes of their own."
    ),
    "missing_partner": Finding(
        "error", "The other half of the pair (.hdr with the header, .img with the voxels) is missing.",
        "Put both into one folder, under the same name.",
    ),
    "mask_without_image": Finding(
        "error", "The mask belongs to no scan of the cohort.", "Give mask and scan the same file name."
    ),
    "mask_of_several": Finding(
        "error",
        "The mask fits several scans.",
        "Name the mask after the scan's path, in parallel folders; draw a DICOM SEG on one time point or echo.",
    ),
    "mask_repeated": Finding(
        "error",
        "Several masks are there for one scan, so none of them is used: each may lack what the others hold.",
        "Keep one, or save all structures in one mask with a label each.",
    ),
    "mask_overlaps": Finding(
        "error",
        "Segments of the mask overlap, and a voxel can have one label only.",
        "Save segments that do not overlap.",
    ),
    "mask_grid": Finding("error", "The mask does not lie on the grid of its scan.", "Resample the mask onto its scan."),
    "second_mask": Finding(
        "error", "The scan has a mask already, and keeps one.", "Leave out the mask that is not meant."
    ),
    "mask_values": Finding("error", "The mask's values are not whole numbers.", "Save the mask with integer labels."),
    "crashed": Finding("error", "The file crashes the library that decodes it.", "Copy it again from its origin."),
    "timed_out": Finding("error", "Reading the file takes far longer than its size explains.", "Check the file."),
    "out_of_memory": Finding(
        "error", "The scan needs more memory than one process may take here.", "Use a machine with more memory."
    ),
    "archive_damaged": Finding("error", "The archive is damaged or incomplete.", "Copy it again from its origin."),
    "archive_encrypted": Finding("error", "The archive is encrypted.", "Unpack it with its password."),
    "archive_bomb": Finding(
        "error", "The archive claims to hold far more than its size can explain.", "Unpack it if it is trusted."
    ),
    # accepted, with something to know
    "no_patient_id": Finding(
        "warning",
        "No patient is known for the scan, so each file counts as a patient of its own.",
        "Map a patient or group column of a label file; else scans of one patient may cross the split.",
    ),
    "generic_patient_id": Finding(
        "warning",
        "The patient id is empty or generic, so the exam stands for the patient.",
        "Map a patient column of a label file where a patient may have several exams.",
    ),
    "exact_duplicate": Finding(
        "warning",
        "Another scan has exactly the same pixels.",
        "Nothing: patients with the same scan stay on one side of every split.",
    ),
    "repeated_instance": Finding(
        "info", "The same DICOM image is there twice; the first file is used.", "Remove the copies."
    ),
    "localizer": Finding(
        "info", "Single images in another direction lie in a volume's series; they are left out.", "Nothing."
    ),
    "split_series": Finding(
        "info", "The series holds several volumes; each is a scan of its own.", "Check their number in the catalog."
    ),
    "series_of_several_patients": Finding(
        "warning",
        "Images of several patients carry the UID of one series; each patient's are a series of their own.",
        "Check the export: identifiers may have been overwritten.",
    ),
    "gantry_tilt": Finding(
        "info", "The gantry was tilted: slices are stacked obliquely, as the affine says.", "Nothing."
    ),
    "mixed_orientations": Finding(
        "warning",
        "The series holds stacks in different directions, as localizers do; each is a scan of its own.",
        "Leave it out where it is a localizer.",
    ),
    "not_a_volume": Finding(
        "warning",
        "All images of the series show the same place (as in bolus tracking); each stands for itself as a 2-D image.",
        "Leave it out where it is a monitoring series.",
    ),
    "step_changes": Finding(
        "warning", "The distance between slices changes within the series; each part is a scan of its own.",
        "Check that no slices are missing where the parts meet.",
    ),
    "ordered_by_time": Finding(
        "info", "Time points were told apart by the order of acquisition times at each place.", "Nothing."
    ),
    "mixed_settings": Finding(
        "warning", "Slices of one volume differ in thickness, kernel, echo, b-value or kind of image.", "Check them."
    ),
    "overlapping_slices": Finding("info", "Slices are thicker than their distance: they overlap.", "Nothing."),
    "slice_gaps": Finding("info", "Slices are thinner than their distance: there are gaps between them.", "Nothing."),
    "frames_left_out": Finding(
        "warning", "Other frames of the same object could not be used.", "Export the object again."
    ),
    "mask_fractional": Finding(
        "info", "The mask held fractions or probabilities: from one half on, a voxel is inside the segment.", "Nothing."
    ),
    "film": Finding("info", "A film or multi-frame object: each frame is an image of its own.", "Nothing."),
    "film_thinned": Finding(
        "info", "A film of more than 64 frames: 64 of them, evenly spread, are images of their own.", "Nothing."
    ),
    "few_slices": Finding("warning", "The volume has fewer than four slices.", "Check that the series is complete."),
    "no_geometry": Finding(
        "warning", "The slice does not say where it lies, so it stands for itself as a 2-D image.", "Export it again."
    ),
    "no_spacing": Finding("info", "The image has no pixel spacing in mm.", "Nothing, unless a View asks for mm."),
    "detector_spacing": Finding(
        "info", "The pixel spacing is the detector's, not the patient's: objects are magnified.", "Nothing."
    ),
    "magnified_spacing": Finding(
        "info", "The pixel spacing is the detector's, divided by the estimated magnification.", "Nothing."
    ),
    "not_hounsfield": Finding("warning", "A CT whose values are not in HU, as its rescale says.", "Check its origin."),
    "no_rescale": Finding("warning", "A CT without rescale values: intensities are not HU.", "Export it again."),
    "padding_masked": Finding("info", "Padding pixels outside the scan were masked.", "Nothing."),
    "not_finite": Finding("warning", "Voxels without a finite value were masked.", "Check what wrote them."),
    "time_points": Finding("info", "A 4-D volume: each time point is a scan of its own.", "Nothing."),
    "no_orientation": Finding(
        "warning", "The NIfTI does not say how it lies in the patient.", "Check left and right before using positions."
    ),
    "forms_disagree": Finding(
        "warning", "The NIfTI's two affines (sform, qform) disagree by over a tenth of a voxel; the sform is used.",
        "Check its origin.",
    ),
    "burned_in_tag": Finding(
        "warning", "The image carries burned-in text, as its header says; it may name the patient.",
        "Look at it; leave it out, or paint the text over, before anything leaves the house.",
    ),
    "burned_in_pixels": Finding(
        "warning", "The pixels seem to hold lines of text; they may name the patient.",
        "Look at it; leave it out, or paint the text over, before anything leaves the house.",
    ),
    "face_bearing": Finding(
        "info", "A volume of the head: the patient's face can be made from it, unless it was defaced.",
        "Deface it before it leaves the house.",
    ),
    "face_possible": Finding(
        "info", "A volume that does not say what part of the body it shows: it may show a face.",
        "Check it before it leaves the house.",
    ),
    "bad_form": Finding(
        "warning", "A part of the NIfTI's geometry makes no sense and was not used.", "Check its origin."
    ),
    "left_right_unknown": Finding(
        "warning", "The Analyze format does not say which side is left; the first column is taken for the right one.",
        "Check left and right against the origin before using positions.",
    ),
    "odd_spacing": Finding(
        "warning", "The voxel size is far from what scanners make.", "Check the unit that the file names."
    ),
    "further_pictures": Finding(
        "info", "The photograph holds further pictures (a preview, a depth map); the first one is used.", "Nothing."
    ),
    "alpha_left_out": Finding("info", "The transparency of a colour volume was left out.", "Nothing."),
    "reduced_to_8_bit": Finding("info", "A 16-bit colour image was reduced to 8 bits.", "Nothing."),
    # ignored
    "label_table": Finding("info", "The label table.", ""),
    "bids_sidecar": Finding("info", "BIDS sidecars (JSON, tables of events, gradients).", ""),
    "bids_derivative": Finding("info", "Images in a folder of derivatives: computed from others.", ""),
    "hidden": Finding("info", "Hidden files and files of the operating system.", ""),
    "not_a_scan": Finding("info", "Files that are no scans (text, tables, documents).", ""),
    "archive": Finding("info", "Archives that are not opened (7z, rar), or single compressed files.", "Unpack them."),
    "archive_without_scans": Finding("info", "Archives that hold no scan.", ""),
    "nested_archive": Finding("info", "Archives inside of archives.", "Unpack the outer ones."),
    "dicomdir": Finding("info", "DICOMDIR indexes; the images themselves are read.", ""),
    "structured_report": Finding("info", "DICOM reports and key object selections.", ""),
    "presentation_state": Finding("info", "DICOM presentation states (how an image was shown).", ""),
    "radiotherapy_object": Finding("info", "Radiotherapy plans, doses and structure sets.", ""),
    "no_pixels": Finding("info", "DICOM objects without an image (waveforms, documents, raw data).", ""),
    "derived_object": Finding("info", "DICOM parametric maps, surfaces and other objects made from images.", ""),
    "unsafe_link": Finding("info", "Links that lead nowhere or in a circle.", ""),
    "inside_cohort": Finding("info", "Files of the cohort itself.", ""),
}  # fmt: skip
